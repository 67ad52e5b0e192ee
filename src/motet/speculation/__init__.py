"""Tokens proposed ahead of the model, for it to check many in the time of one."""

from motet.speculation.lookup import Lookup
from motet.speculation.proposal import Proposal, Proposer, Wanted

__all__ = ["Lookup", "Proposal", "Proposer", "Wanted"]
