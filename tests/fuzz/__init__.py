"""A file that nothing can break: .nvb files mutated in every way we know, and judged.

    python -m tests.fuzz --count 20000 --seed 0      every kind of mutation, in guarded processes, as a table
    python -m tests.fuzz.target tests/fuzz/corpus -max_total_time=60      guided by coverage (needs atheris)
    python -m tests.fuzz.judge FILE.nvb              what comes of one file
    python -m tests.fuzz.corpus                      makes the small files that both begin from

The rule. A file none of whose checksums was made anew must end in an `NvbError` or play exactly like the original. One
whose checksums or digests were made anew, as its author could, may also show other frames of the declared size or be
refused for its thumbnail. No file may crash, hang, or take memory beyond the limits.
"""
