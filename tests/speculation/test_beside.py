"""A text and a draft beside each other: who is asked, and whose proposal counts."""

from collections.abc import Sequence

from motet.speculation import LookupBesideDraft, Proposal, Wanted


class Says:
    """Proposes the same of a sequence each time, and notes what it was asked."""

    def __init__(self, proposals: dict[int, Proposal]) -> None:
        self.proposals = proposals
        self.asked: list[tuple[int, int]] = []
        self.done: list[str] = []

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        self.asked += [(each.seq, each.most) for each in wanted]
        return [self.proposals.get(each.seq) for each in wanted]

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        self.done.append(f"{seq} ended")

    def forget(self) -> None:
        self.done.append("forgot")

    def close(self) -> None:
        self.done.append("closed")


def test_a_draft_is_asked_where_no_text_matches_well() -> None:
    sure, unsure = Proposal((1, 2), 8, "sequence"), Proposal((3,), 3, "sequence")
    drafted = Proposal((4, 5), 0, "draft")
    lookup = Says({0: sure, 1: unsure, 3: unsure})
    draft = Says({0: drafted, 1: drafted, 2: drafted})
    both = LookupBesideDraft(lookup, draft, 8)
    wanted = [Wanted(seq, [seq], 15) for seq in range(5)]
    assert both.propose(wanted) == [sure, drafted, drafted, unsure, None]
    assert lookup.asked == [(seq, 15) for seq in range(5)]
    assert draft.asked == [(seq, 8) for seq in (1, 2, 3, 4)]


def test_a_draft_is_left_alone_where_all_match() -> None:
    draft = Says({})
    both = LookupBesideDraft(Says({0: Proposal((1,), 20, "prediction")}), draft, 8)
    assert both.propose([Wanted(0, [1], 4)]) == [Proposal((1,), 20, "prediction")]
    assert not draft.asked


def test_both_are_told_what_ends() -> None:
    one, other = Says({}), Says({})
    both = LookupBesideDraft(one, other, 8)
    both.ended(3, [1, 2], 1)
    both.forget()
    both.close()
    assert one.done == other.done == ["3 ended", "forgot", "closed"]
