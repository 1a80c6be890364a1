"""Claims, journals and finished shards: who works on what, whoever dies."""

import json
import os
import subprocess
import sys
import time
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.captioning import shards
from mmreid_text.captioning.claims import Claims
from mmreid_text.captioning.image_sources import ImageSource
from mmreid_text.captioning.journal import Answer, Journal, read_journals
from mmreid_text.captioning.shards import SHARD, JobFolder, list_images


class Named(ImageSource):
    """An image source of given names."""

    def __init__(self, names):
        self._names = names

    def names(self):
        return iter(self._names)

    def read(self, name):
        return name.encode()


def job_folder(path, images=10, shard_size=4, stale_after=60):
    folder = JobFolder(path, shard_size, stale_after)
    list_images(folder.list_path, Named([f"{i:03d}.jpg" for i in reversed(range(images))]))
    return folder


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def of_another_machine(claim):
    claim.path.write_text(json.dumps({"host": "far", "pid": 1, "machine": "far 1", "start": 1}))


def take(claims, shard):
    return claims.take(shard, claims.newest())


def answer(image=0, source=0, attempt=0, text="A man.", why="", final=False):
    return Answer(image, source, attempt, text, why, "", 5, 7, final)


def row(folder, shard, i, caption="A man."):
    return {
        "image": folder.names_of(shard)[i],
        "caption": caption,
        "source": "Ts-x",
        "template": -1,
        "instruction": "static",
        "status": "ok",
        "reason": "",
        "detail": "",
        "attempts": 1,
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "rejected": [],
    }


def test_one_claim_per_shard(tmp_path):
    first, second = Claims(tmp_path, 60), Claims(tmp_path, 60)
    assert take(first, 3).generation == 0
    assert take(second, 3) is None
    assert take(second, 4).shard == 4
    # Both looked before either claimed: one wins.
    assert first.take(5, {}) is not None
    assert second.take(5, {}) is None
    first.release(3)
    assert take(second, 3).generation == 0


def test_a_dead_process_of_this_machine_loses_its_claim_at_once(tmp_path):
    if pid := os.fork():
        os.waitpid(pid, 0)
    else:
        take(Claims(tmp_path, 1e9), 0)
        os._exit(0)
    living = Claims(tmp_path, 1e9)
    assert take(living, 0).generation == 1
    assert take(Claims(tmp_path, 1e9), 0) is None


def test_a_silent_process_of_another_machine_loses_its_claim_in_time(tmp_path):
    first, second, third = (Claims(tmp_path, 60) for _ in range(3))
    claim = take(first, 0)
    of_another_machine(claim)
    assert take(second, 0) is None
    age(claim.path, 59)
    assert take(second, 0) is None
    age(claim.path, 61)
    known = second.newest()
    taken = second.take(0, known)
    assert taken.generation == 1
    assert third.take(0, known) is None  # it had found the claim stale, too
    assert first.renew([claim]) == [claim]  # asleep, not dead
    assert second.renew([taken]) == []


def test_a_sign_of_life_keeps_a_claim(tmp_path):
    first, second = Claims(tmp_path, 60), Claims(tmp_path, 60)
    claim = take(first, 0)
    of_another_machine(claim)
    age(claim.path, 61)
    assert first.renew([claim]) == []
    assert take(second, 0) is None
    claim.path.unlink()  # finished by another
    assert first.renew([claim]) == [claim]


def test_a_half_written_claim_is_respected_until_it_is_stale(tmp_path):
    claims = Claims(tmp_path, 60)
    path = tmp_path / "0000000.0"
    path.write_text('{"host": "a')
    assert take(claims, 0) is None
    age(path, 61)
    assert take(claims, 0).generation == 1


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 3), st.text(max_size=20), st.booleans())),
    st.integers(0, 200),
)
def test_a_journal_gives_back_all_but_a_torn_end(tmp_path_factory, entries, lost):
    path = tmp_path_factory.mktemp("journal") / "0.a.jsonl"
    answers = [answer(i, s, n, text, "" if good else "empty") for i, s, n, text, good in entries]
    journal = Journal(path)
    ends = []
    for entry in answers:
        journal.write(entry)
        ends.append(path.stat().st_size)
    journal.close()
    content = path.read_bytes()[: max(ends[-1] - lost, 0)] if ends else b""
    path.write_bytes(content)
    expected = {}
    for entry, end in zip(answers, ends):
        if end - 1 > len(content):  # its last byte is a line break, which may be gone
            continue
        told = expected.setdefault((entry.image, entry.source), {})
        if entry.attempt not in told or (entry.accepted and not told[entry.attempt].accepted):
            told[entry.attempt] = entry
    found = read_journals([path])
    assert found.keys() == expected.keys()
    for slot, told in expected.items():
        kept = [told[n] for n in sorted(told)]
        accepted = [entry.accepted for entry in kept]
        assert found[slot] == (kept[: accepted.index(True) + 1] if True in accepted else kept)


def test_of_two_journals_the_accepted_answer_counts(tmp_path):
    for name, text, why in (("a", "[clothing]", "brackets"), ("b", "A man.", ""), ("c", "A woman.", "")):
        journal = Journal(tmp_path / f"0.{name}.jsonl")
        journal.write(answer(text=text, why=why))
        journal.close()
    found = read_journals(tmp_path.glob("*.jsonl"))
    assert [told.text for told in found[0, 0]] == ["A man."]


def test_what_is_asked_behind_an_accepted_answer_is_left_out(tmp_path):
    # One process was taken for dead and went on; its journal came to light when the other had been answered.
    for name, entries in (("a", [(0, "empty"), (1, ""), (2, "")]), ("b", [(0, "loop"), (1, "brackets"), (2, "loop")])):
        journal = Journal(tmp_path / f"0.{name}.jsonl")
        for attempt, why in entries:
            journal.write(answer(attempt=attempt, why=why))
        journal.close()
    assert [told.why for told in read_journals(tmp_path.glob("*.jsonl"))[0, 0]] == ["empty", ""]


def test_a_journal_that_is_removed_meanwhile_is_passed_over(tmp_path):
    journal = Journal(tmp_path / "0.b.jsonl")
    journal.write(answer())
    journal.close()
    assert len(read_journals([tmp_path / "0.a.jsonl", tmp_path / "0.b.jsonl"])) == 1


def test_a_shard_is_finished_once(tmp_path):
    first, second = job_folder(tmp_path), job_folder(tmp_path)
    rows = [row(first, 0, i) for i in range(4)]
    assert first.finish(0, rows, Counter(ok=4))
    assert not second.finish(0, [row(second, 0, i, "Another.") for i in range(4)], Counter(ok=4))
    assert second.read(0).schema == SHARD
    assert set(second.read(0).column("caption").to_pylist()) == {"A man."}
    assert first.counts_of(0) == Counter(ok=4)
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["0000000.arrow"]


def test_who_finishes_a_shard_while_another_tidies_up_is_late(tmp_path, monkeypatch):
    first, late = job_folder(tmp_path), job_folder(tmp_path)
    rows = [row(first, 0, i) for i in range(4)]

    def tidied_amid(path, *rest):
        late.tidy()  # what is written beside goes
        raise FileNotFoundError(path)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_arrow", tidied_amid)
        with pytest.raises(FileNotFoundError):
            late.finish(0, rows, Counter(ok=4))
    first.finish(0, rows, Counter(ok=4))
    monkeypatch.setattr(shards, "write_arrow", tidied_amid)
    assert not late.finish(0, rows, Counter(ok=4))


def test_without_links_a_shard_is_whole(tmp_path, monkeypatch):
    def refuse(*paths):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    folder = job_folder(tmp_path)
    assert folder.finish(1, [row(folder, 1, 0)], Counter(ok=1))
    assert not folder.finish(1, [row(folder, 1, i) for i in range(2)], Counter(ok=2))
    assert folder.read(1).num_rows == 1
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["0000001.arrow"]


def test_shards_are_dealt_out_until_all_are_finished(tmp_path):
    first, second = job_folder(tmp_path), job_folder(tmp_path)
    claims = [folder.claim_next() for folder in (first, second, first)]
    assert {claim.shard for claim in claims} == {0, 1, 2}
    assert first.claim_next() is second.claim_next() is None
    first.finish(0, [row(first, 0, 0)], Counter(ok=1))
    assert second.finished() == {0}
    assert second.claim_next() is None
    # A claim on what was finished between looking and claiming is given back.
    third = job_folder(tmp_path)
    third.finished = set
    (tmp_path / "claims" / "0000001.0").unlink()
    (tmp_path / "claims" / "0000002.0").unlink()
    third.finish(1, [row(third, 1, 0)], Counter())
    assert third.claim_next().shard == 2
    assert not (tmp_path / "claims" / "0000001.0").exists()


def test_who_finds_nothing_to_do_looks_ever_more_seldom(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(shards, "monotonic", lambda: clock[0])
    busy, idle = job_folder(tmp_path, images=4), job_folder(tmp_path, images=4)
    claim = busy.claim_next()
    pauses = []
    for _ in range(40):
        assert idle.claim_next() is None
        pauses.append(idle.pause())
        clock[0] += pauses[-1]
    assert all(0.4 <= pause <= 0.6 for pause in pauses[:3])
    assert all(4 <= pause <= 6 for pause in pauses[-10:])
    assert len({round(pause, 3) for pause in pauses[-10:]}) > 5
    assert abs(idle.pause() - busy.pause()) > 1e-6
    busy.claims.release(claim.shard)
    assert idle.claim_next() is not None
    assert idle.pause() <= 0.6


def test_a_damaged_shard_is_named(tmp_path):
    folder = job_folder(tmp_path)
    folder.shard_path(0).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"0000000\.arrow is damaged .*delete it"):
        folder.read(0)
    with pytest.raises(ValueError, match=r"0000000\.arrow is damaged .*delete it"):
        folder.counts_of(0)


def test_word_of_open_shards_is_summed_once(tmp_path):
    first, second = job_folder(tmp_path), job_folder(tmp_path)
    first.tell({0: Counter(ok=3), 1: Counter(ok=1)})
    second.tell({1: Counter(ok=2)})
    (tmp_path / "workers/broken.json").write_text("{")
    assert first.told() == {0: Counter(ok=3), 1: Counter(ok=2)}


def test_images_are_listed_sorted_and_once(tmp_path):
    folder = job_folder(tmp_path)
    assert folder.names_of(2) == ["008.jpg", "009.jpg"]
    assert (len(folder.images), folder.num_shards) == (10, 3)
    list_images(folder.list_path, Named(["other.jpg"]))  # the list stands
    assert len(job_folder(tmp_path).images) == 10
    for names, rule in (([], "no image"), (["a", "b", "a"], "'a' is listed twice"), (["a\udcff"], "no Unicode text")):
        with pytest.raises(ValueError, match=rule):
            list_images(tmp_path / "fresh.arrow", Named(names))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "claims",
        "images.arrow",
        "journals",
        "shards",
        "workers",
    ]


@pytest.mark.parametrize("shard_size", [1, 7, 300, 5000, 65_536])
def test_shards_part_the_list(tmp_path, shard_size):
    count = 9001
    folder, every = job_folder(tmp_path, count, shard_size), sorted(f"{i:03d}.jpg" for i in range(count))
    with pa.OSFile(str(folder.list_path)) as file:
        assert pa.ipc.open_file(file).num_record_batches == 3
    shards = range(folder.num_shards) if shard_size > 1 else (0, 4095, 4096, 8999, 9000)
    names = [folder.names_of(shard) for shard in shards]
    if shard_size == 1:
        assert names == [[every[shard]] for shard in shards]
    else:
        assert [name for part in names for name in part] == every
        assert {len(part) for part in names[:-1]} <= {shard_size}


MEASURE = """
import sys
from pathlib import Path
from mmreid_text.captioning.image_sources import ImageSource
from mmreid_text.captioning.shards import JobFolder, list_images

most = 0

def look():
    global most
    most = max(most, next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon:")))

class Numbered(ImageSource):
    def __init__(self, count):
        self.count = count
    def names(self):
        for i in range(self.count):
            if i % 10_000 == 0:
                look()
            yield f"{i % 1000:03d}/{i:07d}.jpg"
    def read(self, name):
        return b""

def work(out, count):
    folder = JobFolder(Path(out), 256, 60)
    list_images(folder.list_path, Numbered(count))
    names = 0
    for shard in range(folder.num_shards):
        names += len(folder.names_of(shard))
        if shard % 50 == 0:
            look()
    assert names == count and folder.claim_next() is not None

work(sys.argv[1] + "/first", 20_000)
before = most
work(sys.argv[1] + "/second", 250_000)
print(most - before)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    grown = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert grown < 5_000  # kB; a list of the names would take 17,000


def test_who_closes_gives_up_its_claims_and_takes_no_more(tmp_path):
    first, second = Claims(tmp_path, 60), Claims(tmp_path, 60)
    for shard in range(3):
        take(first, shard)
    first.release(1)
    taken = take(second, 1)
    first.close()
    assert take(second, 0).generation == 0
    assert second.renew([taken]) == []  # it is the other's by now
    assert first.take(5, {}) is None
    assert {path.name for path in tmp_path.iterdir()} == {"0000000.0", "0000001.0"}
