import pytest

from motet.errors import OptionError
from motet.evals.tasks import Task, read_tasks, shuffled

ONE = "A man sits.\n2\nhe runs.\nhe eats.\nhe stands up.\nhe is a dog.\n"
TWO = "A dog barks. it\n0\nis loud.\nis blue.\nflies.\nreads.\n"


def test_six_lines_a_task():
    tasks = read_tasks(ONE + TWO, "tasks.txt")
    assert tasks == [
        Task(1, "A man sits.", 2, ("he runs.", "he eats.", "he stands up.", "he is a dog.")),
        Task(2, "A dog barks. it", 0, ("is loud.", "is blue.", "flies.", "reads.")),
    ]
    assert [task.line for task in tasks] == [1, 7]
    assert read_tasks((ONE + TWO).removesuffix("\n"), "") == tasks
    assert read_tasks((ONE + TWO).replace("\n", "\r\n"), "") == tasks


def test_only_line_feeds_end_lines():
    odd = ONE.replace("he runs.", "he\x0bruns\u2028 and\x85 jumps.\r.")
    assert read_tasks(odd, "")[0].endings[0] == "he\x0bruns\u2028 and\x85 jumps.\r."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.txt: line 1 is empty"),
        (ONE + "\n" + TWO, "line 7 is empty"),
        (ONE + TWO + "\n", "line 13 is empty"),
        (ONE.replace("2\n", "4\n"), "line 2 is '4', not the number of an ending, 0 to 3"),
        (ONE.replace("2\n", "-1\n"), "line 2 is '-1'"),
        (ONE + TWO.replace("0\n", "²\n"), "line 8 is '²'"),
        (ONE.replace("2\n", ""), "line 2 is 'he runs.'"),
        (ONE + "A dog\n1\n", "line 8 is the last, and its task has 2 of 6"),
        (ONE.replace("2\n", "9" * 5000 + "\n"), "line 2 is '9999"),
    ],
)
def test_another_form_is_refused_with_its_line(text, message):
    with pytest.raises(OptionError) as raised:
        read_tasks(text, "t.txt")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 250


def many(count: int) -> list[Task]:
    return [Task(i, "", 0, ()) for i in range(1, count + 1)]


# From a C++ program with the lines of llama.cpp, built with GCC 12.2.
LLAMA_CPP = [835, 1995, 1441, 1865, 1, 257, 605, 1999, 295, 474]


def test_the_order_is_that_of_llama_cpp():
    assert [task.number for task in shuffled(many(2000), 10)] == LLAMA_CPP


def test_every_task_is_drawn_once():
    drawn = shuffled(many(50), 60, seed=7)
    assert sorted(task.number for task in drawn) == list(range(1, 51))
    assert shuffled(many(50), 8, seed=7) == drawn[:8] != shuffled(many(50), 8, seed=8)


@pytest.mark.parametrize("seed", [-1, 1 << 32, "1"])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(OptionError, match="seed is"):
        shuffled(many(5), 5, seed)
