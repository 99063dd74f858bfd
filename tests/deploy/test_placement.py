"""Places of a replica, the board of reports, and the plan: without Ray."""

from __future__ import annotations

import pytest

from being.deploy.board import STALE_S, Board, Report
from being.deploy.holds import CLAIM_S, Holds
from being.deploy.plan import parse_replicas
from being.errors import UsageError
from being.session.refusals import Refusal


def test_a_place_is_held_until_its_session_has_ended() -> None:
    holds = Holds(2)
    hold = holds.take("a", 0.0)
    holds.look(set(), 1.0)
    assert holds.sessions == ["a"] and not hold.ended.is_set()
    holds.look({"a"}, CLAIM_S + 9)
    assert holds.sessions == ["a"]
    holds.look(set(), CLAIM_S + 10)
    assert holds.sessions == [] and hold.ended.is_set()


def test_a_place_that_nobody_takes_is_free_again() -> None:
    holds = Holds(1)
    hold = holds.take("a", 0.0)
    with pytest.raises(Refusal) as refusal:
        holds.take("b", 1.0)
    assert refusal.value.name == "full" and "1 of 1" in refusal.value.why
    holds.look(set(), CLAIM_S + 0.1)
    assert hold.ended.is_set()
    holds.take("b", CLAIM_S + 1)


def test_a_client_that_asks_again_keeps_one_place() -> None:
    holds = Holds(1)
    first = holds.take("a", 0.0)
    second = holds.take("a", 1.0)
    assert first.ended.is_set() and not second.ended.is_set() and holds.sessions == ["a"]
    holds.end("a")
    holds.end("a")
    assert second.ended.is_set() and holds.sessions == []


def test_a_place_of_which_nobody_knows_any_more_is_free_unless_its_session_runs() -> None:
    holds = Holds(2)
    holds.give_up(holds.take("a", 0.0))
    assert holds.sessions == []
    came = holds.take("a", 0.0)
    holds.look({"a"}, 1.0)
    holds.give_up(came)
    assert holds.sessions == ["a"]


def test_sessions_that_run_count_also_where_no_request_holds_them() -> None:
    holds = Holds(1)
    holds.look({"a"}, 0.0)
    with pytest.raises(Refusal):
        holds.take("b", 1.0)
    holds.take("a", 1.0)
    assert holds.sessions == ["a"]


def report(name: str, *sessions: str, draining: bool = False) -> Report:
    return Report(name, f"10.0.0.1:{len(name)}", "node", 3, sessions, draining)


def test_the_board_forgets_replicas_that_do_not_report() -> None:
    now = [0.0]
    board = Board(lambda: now[0])
    board.report(report("one", "a"))
    now[0] = STALE_S - 1
    board.report(report("two"))
    assert [r.replica for r in board.reports()] == ["one", "two"]
    assert [r.free for r in board.reports()] == [2, 3]
    now[0] = STALE_S + 1
    assert [r.replica for r in board.reports()] == ["two"]
    board.leave("two")
    assert board.reports() == []


def test_a_draining_replica_has_no_free_place() -> None:
    assert report("one", "a", draining=True).free == 0


def test_the_board_says_whether_a_place_is_free() -> None:
    board = Board(lambda: 0.0)
    assert board.room("a") == (0, 0, False)
    board.report(report("one", "a", "b", "c"))
    assert board.room("d") == (3, 3, False)
    assert board.room("a") == (3, 3, True)  # it has one
    board.report(report("two"))
    assert board.room("d") == (3, 6, True)


def test_the_wish_to_end_a_session_reaches_its_replica_once() -> None:
    board = Board(lambda: 0.0)
    board.report(report("one", "a"))
    board.report(report("two", "b"))
    assert not board.end("none") and board.end("b")
    assert board.report(report("one", "a")) == []
    assert board.report(report("two", "b")) == ["b"]
    assert board.report(report("two", "b")) == []


def test_numbers_of_replicas() -> None:
    assert parse_replicas("2") == (2, 2) and parse_replicas("1:8") == (1, 8)
    for text in ("0", "3:2", "a", "1:", "-1", "99999", ""):
        with pytest.raises(UsageError, match="--replicas"):
            parse_replicas(text)
