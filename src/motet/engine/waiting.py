"""Requests that wait, and whose turn it is: that of the client who got least so far."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

from motet.engine.request import Request


class Waiting:
    """A queue for each client.

    Service is counted in tokens: those of a prompt that have to be computed, once it is admitted,
    and those written. A client that had nothing to do takes no credit from that: its count is
    raised to the least of the others'. (Sheng et al., Fairness in Serving Large Language Models,
    2024, arXiv 2401.00588.) So two clients who always have something waiting get, over any time,
    as many tokens but for what a few requests have.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[Request]] = {}
        """Of clients who have something waiting."""
        self._running = Counter[str]()
        """Requests of clients who have some running."""
        self._served: dict[str, int] = {}
        """Tokens; of clients without requests only where they had more than others."""

    def __len__(self) -> int:
        return sum(map(len, list(self._queues.values())))

    def __iter__(self) -> Iterator[Request]:
        """In any thread, at any time."""
        for queue in list(self._queues.values()):
            yield from list(queue)

    def extend(self, requests: Iterable[Request]) -> None:
        """Let requests wait behind their clients' others."""
        for request in requests:
            self._queue(request).append(request)

    def put_back(self, request: Request) -> None:
        """Let a request that ran wait before its client's others."""
        self._queue(request).appendleft(request)
        self._leave(request)

    def next(self, later: Callable[[Request], bool]) -> Request | None:
        """The request whose turn it is, of those that are not to wait till ``later``."""
        for client in sorted(self._queues, key=self._turn):
            for request in self._queues[client]:
                if not later(request):
                    return request
        return None

    def admit(self, request: Request) -> None:
        """A request that waited runs."""
        client = request.options.client
        self._running[client] += 1
        self._take_out(client, [other for other in self._queues[client] if other is not request])

    def serve(self, request: Request, tokens: int) -> None:
        """Count what is done for a request that runs."""
        self._served[request.options.client] += tokens

    def served(self, request: Request) -> int:
        """What was done for the request's client."""
        return self._served[request.options.client]

    def end(self, request: Request) -> None:
        """A request no longer runs."""
        self._leave(request)
        least = self._least()
        self._served = {
            client: count
            for client, count in self._served.items()
            if self._active(client) or count > least
        }

    def drop_cancelled(self) -> None:
        """Forget requests that nobody waits for any more."""
        for client, queue in list(self._queues.items()):
            if any(request.cancelled for request in queue):
                self._take_out(client, [r for r in queue if not r.cancelled])

    def _queue(self, request: Request) -> deque[Request]:
        client = request.options.client
        if not self._active(client):
            self._served[client] = max(self._served.get(client, 0), self._least())
        return self._queues.setdefault(client, deque())

    def _turn(self, client: str) -> tuple[int, float]:
        return self._served[client], self._queues[client][0].submitted

    def _least(self) -> int:
        """What the clients who have requests got at least."""
        active = {*self._queues, *self._running}
        return min((self._served[client] for client in active), default=0)

    def _active(self, client: str) -> bool:
        return client in self._queues or client in self._running

    def _leave(self, request: Request) -> None:
        client = request.options.client
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]

    def _take_out(self, client: str, rest: list[Request]) -> None:
        if rest:
            self._queues[client] = deque(rest)
        else:
            del self._queues[client]
