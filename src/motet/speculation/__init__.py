"""Tokens proposed ahead of the model, for it to check many in the time of one."""

from motet.speculation.proposal import Proposal, Proposer, Wanted

__all__ = ["Proposal", "Proposer", "Wanted"]
