"""Windows that differ little from recent ones are predicted the same, from what was kept, in bounded memory."""

import gc
import threading

import numpy as np
import pytest
from network_cases import borzoi_like, make_network

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference import predictor as predictor_module
from kipoi_borzoi.inference import recent as recent_module
from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.inference.recent import RecentStems, recent_stems

pytestmark = pytest.mark.usefixtures("uncompiled", "short_windows")

TOLERANCE = 1e-5  # of the largest output: float32 rounding over a dozen layers
LENGTH = 1024
# Bytes of one window that is kept: 128 positions of 8 channels leave the stem; of the levels of 512 and 256
# positions (6 and 8 channels), a crop of 3 of 512 bins leaves 2 to 510 and 0 to 256; and 4 bits per base.
ONE = 4 * (128 * 8 + 508 * 6 + 256 * 8) + LENGTH // 2


@pytest.fixture
def short_windows(monkeypatch):
    """Let windows of any length be reused, and go through the network one at a time, as those of full size do."""
    monkeypatch.setattr(recent_module, "LEAST_BP", 0)
    monkeypatch.setattr(predictor_module, "MICRO_BATCH_BP", LENGTH)


@pytest.fixture(scope="module")
def network():
    return make_network(borzoi_like(seq_length=LENGTH), dtype="float32")


@pytest.fixture
def predictor(network):
    return Predictor(network)


def windows(count, seed=0):
    """Random one-hot windows (count, LENGTH, 4), bool."""
    return np.eye(4, dtype=bool)[np.random.default_rng(seed).integers(0, 4, (count, LENGTH))]


def mutants(x, place=511):
    """The same windows with one base replaced in each."""
    y = x.copy()
    y[:, place] = np.roll(y[:, place], 1, axis=-1)
    return y


class Counted:
    """Runs calls of a predictor with reuse and counts the stems that were run whole."""

    def __init__(self, predictor, monkeypatch, limit=10**9):
        self.recent, self.predictor, self.limit, self.whole = RecentStems(), predictor, limit, 0
        advance = Predictor.advance

        def counted(predictor, state, unit, layout, precision):
            self.whole += state.unit == 0 and unit > 0
            return advance(predictor, state, unit, layout, precision)

        monkeypatch.setattr(Predictor, "advance", counted)

    def __call__(self, x, **options):
        """Predict ``x`` in one call; return the coverage and how many stems were run whole."""
        before = self.whole
        stems = self.recent.call(self.limit)
        y = np.concatenate([part for _, part in self.predictor.batches(x, stems=stems, **options)])
        assert self.recent.nbytes <= self.limit
        return y, self.whole - before


def close(got, expected):
    return got.shape == expected.shape and np.abs(got - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_alternatives_in_the_next_call_take_the_stem_of_their_references(predictor, monkeypatch):
    reference = windows(3)
    alternative = mutants(reference)
    plain = predictor.predict(reference), predictor.predict(alternative)
    run = Counted(predictor, monkeypatch)
    for x, expected, stems in ((reference, plain[0], 3), (alternative, plain[1], 0), (reference, plain[0], 0)):
        got, whole = run(x)
        assert whole == stems and close(got, expected)
    assert run.recent.nbytes == 3 * ONE
    assert np.abs(plain[0] - plain[1]).max() > 1e-3


def test_mutants_of_one_reference_in_one_call_and_several_windows_at_a_time(predictor, monkeypatch):
    monkeypatch.setattr(predictor_module, "MICRO_BATCH_BP", 2 * LENGTH)
    reference = windows(1)
    x = np.concatenate([reference, *(mutants(reference, place) for place in (0, 500, 1023)), windows(1, seed=1)])
    expected = predictor.predict(x)
    run = Counted(predictor, monkeypatch)
    got, whole = run(x.astype(np.float32))
    assert whole == 2 and close(got, expected)


def test_strands_and_shifts_are_kept_each(predictor, monkeypatch):
    reference = windows(1)
    options = {"rc": True, "shifts": (0, 1), "strand_pair": [1, 0, 2]}
    expected = predictor.predict(mutants(reference), **options)
    run = Counted(predictor, monkeypatch)
    # A window and its copy moved by a base differ nearly everywhere.
    assert run(reference, **options)[1] == 4
    got, whole = run(mutants(reference), **options)
    assert whole == 0 and close(got, expected)


def test_what_was_predicted_before_does_not_matter(predictor, monkeypatch):
    x = np.concatenate([windows(2), mutants(windows(2)), mutants(windows(2), 700)])
    run = Counted(predictor, monkeypatch)
    first = run(x)[0]
    backwards = Counted(predictor, monkeypatch)(x[::-1])[0][::-1]
    one_by_one = np.concatenate([Counted(predictor, monkeypatch)(x[i : i + 1])[0] for i in range(6)])
    for other in (backwards, one_by_one, run(x)[0]):
        assert close(first, other)


def test_of_more_references_than_fit_as_many_are_kept_as_fit(predictor, monkeypatch):
    reference = windows(6)
    run = Counted(predictor, monkeypatch, limit=2 * ONE + 100)
    for strand in (reference, reference[:, ::-1, ::-1]):  # as kipoi-veff: both alleles, then both on the other strand
        assert run(strand)[1] == 6 and run.recent.nbytes == 2 * ONE
        alternative, whole = run(mutants(strand))
        assert whole == 4 and close(alternative, predictor.predict(mutants(strand)))


def test_pairs_side_by_side_need_room_for_one(predictor, monkeypatch):
    reference = windows(5)
    pairs = np.stack([reference, mutants(reference)], axis=1).reshape(10, LENGTH, 4)
    run = Counted(predictor, monkeypatch, limit=ONE)
    got, whole = run(pairs)
    assert whole == 5 and close(got, predictor.predict(pairs))


def test_a_window_that_is_larger_than_the_room_is_not_kept(predictor, monkeypatch):
    run = Counted(predictor, monkeypatch, limit=ONE - 1)
    assert run(windows(1))[1] == 1 and run(windows(1))[1] == 1
    assert run.recent.nbytes == 0


def test_crops_precisions_and_predictors_do_not_mix(predictor, network, monkeypatch):
    x = windows(1)
    run = Counted(predictor, monkeypatch)
    run(x)
    for options in ({"crop": 50}, {"precision": "mixed_bfloat16"}):
        got, whole = run(mutants(x), **options)
        assert whole == 1 and np.array_equal(got, predictor.predict(mutants(x), **options))
    other = make_network(borzoi_like(seq_length=LENGTH), seed=2, dtype="float32")
    run.predictor = Predictor(other)
    got, whole = run(mutants(x))
    assert whole == 1 and close(got, run.predictor.predict(mutants(x)))


def test_soft_sequences_are_predicted_as_ever(predictor, monkeypatch):
    soft = 0.9 * windows(1).astype(np.float32) + 0.025
    run = Counted(predictor, monkeypatch)
    expected = predictor.predict(soft)
    run.whole = 0
    for _ in range(2):
        got, whole = run(soft)
        assert whole == 1 and close(got, expected)
    assert run.recent.nbytes == 0


def test_states_go_with_their_predictor(network, monkeypatch):
    run = Counted(Predictor(network), monkeypatch)
    run(windows(1))
    assert run.recent.nbytes == ONE
    run.predictor = None
    gc.collect()
    assert run.recent.nbytes == 0


def test_threads_may_share_what_is_kept(predictor):
    recent, x = RecentStems(), windows(3)
    jobs = [x, mutants(x), mutants(x, 3), mutants(x[::-1], 900)]
    expected = [predictor.predict(job) for job in jobs]
    results = [None] * len(jobs)

    def work(number):
        for _ in range(2):
            parts = predictor.batches(jobs[number], stems=recent.call(2 * ONE))
            results[number] = np.concatenate([part for _, part in parts])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(close(got, wanted) for got, wanted in zip(results, expected, strict=True))
    assert 0 < recent.nbytes <= 2 * ONE


def test_short_windows_are_left_alone(predictor, monkeypatch):
    monkeypatch.setattr(recent_module, "LEAST_BP", LENGTH + 1)
    run = Counted(predictor, monkeypatch)
    got, _ = run(windows(2))
    assert np.array_equal(got, predictor.predict(windows(2))) and run.recent.nbytes == 0


def test_switches(monkeypatch):
    assert recent_stems() is not None and recent_stems(reuse=False) is None
    for name, value, message in (
        ("KIPOI_BORZOI_REUSE", "no", "is 'no'; give 0 .off. or 1 .on."),
        ("KIPOI_BORZOI_REUSE_MB", "1.5", "is '1.5'; give a whole number of megabytes"),
    ):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            with pytest.raises(InputError, match=message):
                recent_stems()
            context.setenv(name, "0")
            assert recent_stems() is None
    monkeypatch.setenv("KIPOI_BORZOI_REUSE_MB", "500")
    assert recent_stems().limit == 500_000_000
