import tracemalloc

from autoseg.fingerprint.copies import copies, near_any, near_copies
from autoseg.fingerprint.fingerprint import CaseStats
from autoseg.seeds import stream


def seen(case_id, thumbnail, **facts):
    bits = None if thumbnail is None else f"{thumbnail:016x}"
    facts = {"shape": (2, 2), "shape_after_crop": (2, 2), "spacing": (1.0, 1.0), **facts}
    return CaseStats(case_id=case_id, thumbnail=bits, **facts)


def test_images_that_are_one_like_the_next_are_one_set():
    chain = [seen("c", 0xFF), seen("a", 0x0), seen("b", 0xF), seen("d", 0xFF << 40)]
    assert near_copies([*chain, seen("e", None), seen("f", None)]) == (("a", "b", "c"),)


def test_every_set_is_found():
    drawn = stream(0, "looks").integers(0, 1 << 62, 40).tolist()
    cases = [seen(f"{i}{j}", bits ^ (j << 7)) for i, bits in enumerate(drawn) for j in range(3)]
    expected = tuple(sorted((f"{i}0", f"{i}1", f"{i}2") for i in range(40)))
    assert near_copies(cases[::-1]) == expected


def test_near_any_of_others_needs_a_direct_likeness():
    cases = [seen("a", 0x0), seen("b", 0xF), seen("c", 0xFF), seen("d", None)]
    assert near_any(cases[1:], cases[:1]) == ("b",)
    assert near_any(cases, []) == ()


def test_many_images_that_are_all_alike_take_little_memory():
    cases = [seen(f"{i:04d}", 0) for i in range(1500)]
    tracemalloc.start()
    (ids,) = near_copies(cases)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(ids) == 1500
    assert peak < 2_000_000  # a million pairs would take a hundred times that


def test_copies_have_the_same_content():
    cases = [seen(name, None, content_hash=name[0]) for name in ("a2", "a1", "b1")]
    assert copies([*cases, seen("c", None), seen("d", None)]) == (("a1", "a2"),)
