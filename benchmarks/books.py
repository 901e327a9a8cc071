"""A small model of fairy tales, novels and Shakespeare: what its passages are like, and how it fills gaps. Resumable by rows.

    export UNVEIL_DATA=...                                # text/books/*.txt.gz and text/tinyshakespeare.txt.gz
    python benchmarks/books.py --data                     # runs/books-data: documents of 4,000 characters, byte pairs
    python benchmarks/books.py --train judge masked block # and so on; a killed training goes on
    python benchmarks/books.py                            # every row that can be made; `--rows passages-masked` some

Rows of `results/books.json` are written one by one and not made again while they are there; a row that cannot be
made says what is missing. Minutes are those of one core, as in `latent.py`; `--minutes` changes all.

    trainings                                  minutes of one core
    judge                                      a causal model of the same shape, which only judges; 30
    masked, block                              masked and block diffusion (blocks of 8), to choose between them; 15
    long                                       the better kind of the two, for the packaged model; 150

    rows
    held-out, shuffled                         64 passages of 128 tokens of the held-out text, and these with their
                                               words in random order
    choice-<model>                             how text is written: settings, on other noise than what is reported
    passages-<model>                           64 passages of 128 tokens: share of words that occur in the training
                                               text, the judge's nats a token, entropy of the tokens, and the share
                                               of passages with 24 tokens in a row that stand in the training text
    passages-text-shakespeare                  the packaged model's, encoded anew
    gaps-<model>                               20 held-out sentences with a gap, filled; readers judge them
"""

from books import data, gaps, passages, trainings
from latent import program
from latent.program import Program, Rows
from latent.rows import Bench

TABLES = (passages, gaps)


def rows(bench: Bench, seeds: tuple[int, ...] = (0,)) -> Rows:
    """All rows by name."""
    return {name: row for table in TABLES for name, row in table.rows(bench, seeds).items()}


PROGRAM = Program(
    "books",
    __doc__ or "",
    trainings.NAMES,
    trainings.train_one,
    rows,
    (data.prepared_folder,),
    trainings.NAMES,
)

if __name__ == "__main__":
    program.run(PROGRAM)
