"""Latent diffusion and text to image: tables (a) to (d) of docs/applications/text-to-image.md. Resumable by rows.

    export UNVEIL_DATA=...                                               # emoji64.npz, and models/ with TAEF2 and SqueezeNet
    python benchmarks/latent.py --data                                   # runs/latent-data: shapes, emoji without held-out pairs
    python benchmarks/latent.py --train judge-pairs judge-styles ae-f4-z4-full  # and so on; a killed training goes on
    python benchmarks/latent.py --train                                  # all that are missing, in this order
    python benchmarks/latent.py                                          # every row that can be made; `--rows shapes-words` some
    python benchmarks/latent.py --run emoji-words=runs/emoji             # a training that was made elsewhere

Rows of `results/latent.json` are written one by one and not made again while they are there; a row that cannot be
made says what is missing. `--seeds 1` stands for the second trainings, whose names end in -s1.

Minutes are those of one core, by the processor's clock, which other programs do not change: trainings that are
limited by minutes time thirty steps first, and take as many as fit. Cosine schedules end with the last step.

    trainings                                       minutes of one core; `--minutes` changes those marked *
    judge-pairs, judge-styles                       a small CLIP and a classifier of styles, of real pictures; 20, 10
    ae-<f4|f8>-<z4|z16>-full                        2,000 steps of `unveil train autoencoder`: 24
    ae-f4-z4-<pixels|perceptual>                    the same with fewer of its losses: 10 to 20
    pixel, taef2, own                               * 18: U-Nets of pixels, of TAEF2's codes, of ae-f4-z4-full's
    shapes-<words|minilm|random>, -drop0, -drop0.2  * 40: encoders of captions, and caption dropout (otherwise 0.1)
    emoji-words                                     * 40: animals, food and faces without held-out pairs of concept and
                                                    style, on the codes of emoji-text's autoencoder
    lora-<1|4|16>, lora-full, lora-inversion        3,000 steps on twenty pictures, from emoji-words: 2 to 5

    rows
    diffusion-<pixel|taef2|own>, -real-<...>                 (a) distances, n 1000, DPM-Solver++ in 20 steps, and their bounds
    autoencoder-<taef2|shrunk-f|f4-z4-full|...>              (b) PSNR and distances of held-out pictures' reconstructions
    shapes-choice-<t>, shapes-<t>, shapes-words-scale-<s>    (c) one and two objects, seen and held-out pairs, n 200 each
    shapes-packaged-<s>                                      (c) the packaged model on varied captions, see `unveil data shapes`
    emoji-choice-<t>, emoji-<t>, emoji-words-scale-<s>       (c) seen captions, held-out pairs, unseen concepts
    lora-<...>, lora-base, lora-real                         (d) style, concept kept, old styles kept, n 100

Scales of guidance are chosen in the rows `choice`, on captions of seen pairs or training pictures, with other
captions and other noise than any that is reported. Intervals are Wilson's for fractions, bootstrap (Frechet) or
Student's t over parts (kernel) for distances.
"""

from latent import autoencoders, data, diffusion, emoji, lora, program, shapes, trainings
from latent.program import Program, Rows
from latent.rows import Bench, without_seed

TABLES = (diffusion, autoencoders, shapes, emoji, lora)
TRAININGS = (*trainings.NAMES, *lora.NAMES)


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> Rows:
    """All rows by name."""
    return {name: row for table in TABLES for name, row in table.rows(bench, seeds).items()}


def train_one(name: str, bench: Bench) -> str:
    """Train, or go on; returns a line that says what was done."""
    return (lora if without_seed(name) in lora.NAMES else trainings).train_one(name, bench)


FILES = (data.shapes_file, data.emoji_train, data.emoji_judged, data.new_style)
PROGRAM = Program("latent", __doc__ or "", TRAININGS, train_one, rows, FILES, trainings.JUDGES)

if __name__ == "__main__":
    program.run(PROGRAM)
