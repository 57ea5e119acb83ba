"""The complex Ginzburg-Landau equation in two dimensions, in JAX, as a job with checkpoints.

    dA/dt = A + (1 + ib) laplacian(A) - (1 + ic) |A|^2 A        on a periodic square

The same method, noise, flags and files as guests/ginzburg-landau, which is the same job as a component:
Strang splitting, with growth and saturation in closed form and diffusion in Fourier space. The last bits
of the two fields differ, because their transforms add in another order; tests/e2e/container/examples.rs
says by how much at most.

    hb run --image IMAGE-WITH-JAX --input gl.py=python/examples/ginzburg_landau.py \\
        -- python3 /in/gl.py --size 128 --steps 1000
"""

import argparse
import struct

import hackbrain
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

MAGIC = b"HBCGLE01"
HEAD = struct.Struct("<8sQQddddQ")


def noise(seed, count):
    """Numbers from -1 to 1 by SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    numbers, state, mask = np.empty(count), seed, (1 << 64) - 1
    for at in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        mixed = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & mask
        mixed ^= mixed >> 31
        numbers[at] = (mixed >> 11) / (1 << 52) - 1.0
    return numbers


def stepper(size, length, dt, b, c):
    """One step of time, compiled."""
    waves = 2.0 * np.pi * np.fft.fftfreq(size, 1.0 / size) / length
    squared = jnp.asarray(waves[:, None] ** 2 + waves[None, :] ** 2)
    diffusion = jnp.exp(-(1.0 + 1j * b) * squared * dt)
    growth = jnp.exp(0.5 * dt)

    def grow(field):
        saturation = 1.0 + jnp.abs(field) ** 2 * (growth * growth - 1.0)
        turn = jnp.exp(-0.5j * c * jnp.log(saturation))
        return field * turn * (growth / jnp.sqrt(saturation))

    @jax.jit
    def step(field):
        return grow(jnp.fft.ifft2(jnp.fft.fft2(grow(field)) * diffusion))

    return step


def encode(field, steps, settings):
    """The bytes of `field.bin` and of a checkpoint's state, which are the same."""
    head = HEAD.pack(MAGIC, settings.size, steps, settings.length, settings.dt, settings.b,
                     settings.c, settings.seed)
    return head + np.asarray(field).astype("<c16").tobytes()


def decode(data, settings):
    """The field, and how many steps it has done."""
    magic, size, steps, *others = HEAD.unpack_from(data)
    expected = [settings.length, settings.dt, settings.b, settings.c, settings.seed]
    if magic != MAGIC or size != settings.size or others != expected:
        raise ValueError("the checkpoint is not one of this job")
    values = np.frombuffer(data, "<c16", offset=HEAD.size)
    return jnp.asarray(values.reshape(size, size)), steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--length", type=float)
    parser.add_argument("--steps", type=int, default=1000)
    for name, default in (("dt", 0.1), ("b", 0.0), ("c", 1.0)):
        parser.add_argument("--" + name, type=float, default=default)
    parser.add_argument("--seed", type=int, default=1)
    settings = parser.parse_args()
    if settings.length is None:
        settings.length = float(settings.size)

    snapshot = hackbrain.restore()
    if snapshot:
        field, done = decode(snapshot.state, settings)
    else:
        size, done = settings.size, 0
        pairs = noise(settings.seed, 2 * size * size).reshape(size, size, 2) * 0.1
        field = jnp.asarray(pairs[..., 0] + 1j * pairs[..., 1])
    step = stepper(settings.size, settings.length, settings.dt, settings.b, settings.c)
    while done < settings.steps:
        if hackbrain.due(done):
            hackbrain.save(encode(field, done, settings))
        field = step(field)
        done += 1
        if done % 10 == 0:
            hackbrain.report(done, settings.steps)
    amplitude = float(jnp.mean(jnp.abs(field)))
    hackbrain.metric("mean amplitude", amplitude)
    hackbrain.artifact("field.bin", encode(field, done, settings))
    print("mean amplitude %.6f" % amplitude)


if __name__ == "__main__":
    main()
