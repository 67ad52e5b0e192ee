"""Tokens proposed ahead of the model, for it to check many in the time of one."""

from motet.speculation.beside import LookupBesideDraft
from motet.speculation.draft import DraftModel
from motet.speculation.lookup import Lookup
from motet.speculation.proposal import Proposal, Proposer, Wanted

__all__ = ["DraftModel", "Lookup", "LookupBesideDraft", "Proposal", "Proposer", "Wanted"]
