"""GLIDE, unCLIP and Imagen on captioned shapes: tables of docs/applications/text-to-image.md. Resumable by rows.

    export UNVEIL_DATA=...                                        # models/ with SqueezeNet, for distances
    python benchmarks/text_to_image.py --data                     # runs/latent-data: the same scenes at 16, 32 and 64 pixels
    python benchmarks/text_to_image.py --train glide clip         # and so on; a killed training goes on
    python benchmarks/text_to_image.py --train --seeds 0          # all that are missing, in this order
    python benchmarks/text_to_image.py                            # every row that can be made; `--rows glide-scale-3` some
    python benchmarks/text_to_image.py --run plain=runs/plain     # a training that was made elsewhere
    python benchmarks/text_to_image.py --minutes 0.1 --count 4 --results /tmp/look    # with and without --train: a quick look

Rows of `results/text-to-image.json` are written one by one and not made again while they are there; a row that
cannot be made says what is missing. `--seeds 1` stands for the second trainings, whose names end in -s1.

Minutes are those of one core, as in `latent.py`; `--minutes` changes all. Embedding the pictures does not count
for priors, as it is the same for both.

    trainings                                        minutes of one core
    glide, plain, efficient, decoder, imagen-small, latent    25: models that draw from noise
    glide-upsampler, imagen-upsampler, imagen-upsampler-plain, clip-noised    15
    clip, ae-shapes                                  10
    glide-inpaint (from glide), prior-diffusion, prior-autoregressive    5

    rows
    glide-scale-<s>, glide-clip-<s>                  (g1) classifier-free guidance, and that by a CLIP of noisy pictures
    glide-inpaint                                    (g2) one of two objects filled in
    glide-upsampler, glide-bicubic                   (g3) true pictures of 16 pixels enlarged
    clip                                             (u1) retrieval
    prior-<diffusion|autoregressive>                 (u2) cosines
    decoder-<prior|text|caption|none|...>            (u3) what the decoder is given
    decoder-variations, decoder-interpolation        (u4), (u5)
    threshold-<static|dynamic>-<s>                   (i1) of `plain`
    cascade-<augmented|plain>-<level>, enlarged-<...>    (i2) noise level of generated small pictures
    plain, efficient                                 (i4); (i3) is of the rows shapes-minilm and shapes-words of latent.json
    latent, reconstructed, real-<32|64>              (x) with glide-scale-<s>, decoder-prior and cascade-augmented-<level>
    choice-<...>                                     scales and levels, chosen on other captions and noise

The judge is the parser of shapes, n 200 captions of each kind; distances are kernel distances of SqueezeNet's
features of the 400 pictures of seen pairs to those of 1,000 true ones. Intervals are Wilson's for shares, and
Student's t for means and distances (over 8 parts).
"""

from latent import program
from latent.program import Program, Rows
from latent.rows import Bench
from text_to_image import data, glide, imagen, systems, trainings, unclip

TABLES = (glide, unclip, imagen, systems)


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> Rows:
    """All rows by name."""
    return {name: row for table in TABLES for name, row in table.rows(bench, seeds).items()}


PROGRAM = Program("text-to-image", __doc__ or "", trainings.NAMES, trainings.train_one, rows, data.FILES)

if __name__ == "__main__":
    program.run(PROGRAM)
