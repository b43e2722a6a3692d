"""One galaxy, drawn: the ten Galaxy10 DECaLS classes as a telescope would see them. Nothing here
knows of data sets.

Reads top to bottom: the vocabulary, Sky (what the light falls on), Body (where a galaxy lies), its
parts, the ten classes, what else is in the field, the telescope, `render`. Profiles and the colour
composition are astropy's (Sersic2D; make_lupton_rgb after Lupton et al. 2004, PASP 116, 133); arms
are logarithmic spirals; the ranges follow what Galaxy Zoo volunteers saw in DECaLS (Walmsley et al.
2022, MNRAS 509, 3966), drawn wide enough that neighbouring classes overlap.

Lengths are fractions of the frame's width, fluxes fractions of the sky's own unit, angles radians
unless named degrees, so a galaxy is the same at any image size: everything but the pixel noise is
drawn from the generator before the size matters.

The file imports nothing of the library and is also a program (`python morphology.py --help`):
`galaxies.generate` runs it in other processes, which then start without PyTorch.
"""

import argparse
import sys
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

CLASS_NAMES = (
    "disturbed",
    "merging",
    "round smooth",
    "in-between round smooth",
    "cigar-shaped smooth",
    "barred spiral",
    "unbarred tight spiral",
    "unbarred loose spiral",
    "edge-on without bulge",
    "edge-on with bulge",
)
VERSION = 1  # part of every image's seed and of the cache key: raise it when the pixels change
SMALLEST = 16  # pixels; below it a galaxy is a handful of grey values
FINE = 128  # smallest grid that a scene is drawn on; smaller images are averaged from it
# a sixteenth of the grid is drawn beyond each edge: light spills in, nothing wraps around
MARGIN = 16
CORE = 0.004  # radius inside which a Sersic cusp is held constant, a fifth of the seeing
YOUNG, OLD = (0.28, 0.20), (0.86, 0.76)  # g-r and r-z of a population, magnitudes
DISPLAY = np.array([6.0, 3.4, 2.2])  # Legacy Survey viewer's weights of g, r, z
DUST = np.array([1.0, 0.72, 0.42])  # optical depth in g, r, z relative to g
TWO_PI = 2 * np.pi


class Sky:
    """The scene above the atmosphere: `light` (3, G, G) in g, r, z, flux per squared frame
    width, on centres `x`, `y`.
    """

    def __init__(self, size: int, reddening: float = 0.0):
        self.size = size
        self.oversampling = -(-FINE // size)  # image pixels are averages of that many squared
        self.margin = -(-size * self.oversampling // MARGIN)
        self.grid = size * self.oversampling + 2 * self.margin
        self.cell = 1 / (size * self.oversampling)
        axis = (np.arange(self.grid) - (self.grid - 1) / 2) * self.cell
        self.axis = axis
        self.x, self.y = np.meshgrid(axis, axis)  # (G, G)
        self.light = np.zeros((3, self.grid, self.grid))
        self.reddening = reddening  # magnitudes added to both colours: redshift and dust

    def paint(self, profile: np.ndarray, flux: float, age: float) -> None:
        """Adds a light distribution (G, G) of any scale; age 0 is young, 1 old, beyond them
        bluer or redder.
        """
        total = profile.sum() * self.cell**2
        self.light += profile * (flux / total * spectrum(age, self.reddening))[:, None, None]

    def points(self, x: np.ndarray, y: np.ndarray, flux: np.ndarray, age: float) -> None:
        """Adds unresolved sources, each shared by its four nearest cells so that sub-pixel
        positions survive.
        """
        column, row = (np.stack([x, y]) - self.axis[0]) / self.cell
        weights = (flux / self.cell**2)[:, None] * spectrum(age, self.reddening)  # (N, 3)
        for down in (0, 1):
            for right in (0, 1):
                r, c = np.floor(row).astype(int) + down, np.floor(column).astype(int) + right
                share = (1 - np.abs(row - r)) * (1 - np.abs(column - c))
                inside = (r >= 0) & (r < self.grid) & (c >= 0) & (c < self.grid)
                np.add.at(
                    self.light,
                    (slice(None), r[inside], c[inside]),
                    (share[:, None] * weights)[inside].T,
                )


def spectrum(age: float, reddening: float = 0.0) -> np.ndarray:
    """Flux in g, r, z as displayed, mean 1: colour carries no brightness."""
    g_r, r_z = (
        young + age * (old - young) + reddening for young, old in zip(YOUNG, OLD, strict=True)
    )
    flux = DISPLAY * 10 ** (0.4 * np.array([-g_r, 0.0, r_z]))
    return flux / flux.mean()


def sersic(
    u, v, effective_radius, index, *, axis_ratio=1.0, position_angle=0.0, boxiness=0.0
) -> np.ndarray:
    """Sersic profile around (0, 0), 1 at the effective radius; a cusp is flat inside `CORE`,
    whatever the pixel's size.
    """
    from astropy.modeling.models import Sersic2D  # a second, which only drawing needs

    profile = Sersic2D.evaluate(
        u, v, 1.0, effective_radius, index, 0.0, 0.0, 1 - axis_ratio, position_angle, boxiness
    )
    peak = Sersic2D.evaluate(CORE, 0.0, 1.0, effective_radius, index, 0.0, 0.0, 0.0, 0.0, 0.0)
    return np.minimum(profile, peak)


def smooth_field(sky: Sky, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Gaussian random field (G, G) of unit variance that varies over `scale`, from a lattice
    that no image size changes.
    """
    knots = np.arange(-0.6 - scale, 0.6 + 2 * scale, scale)
    lattice = rng.standard_normal((len(knots), len(knots)))
    kernel = np.exp(-0.5 * ((sky.axis[:, None] - knots) / (0.7 * scale)) ** 2)  # (G, K)
    kernel /= np.sqrt((kernel**2).sum(axis=1, keepdims=True))
    # einsum, not @: a matrix library may round differently with another number of threads.
    return np.einsum("gk,kh->gh", kernel, np.einsum("jk,hk->jh", lattice, kernel))


@dataclass(frozen=True)
class Body:
    """Where a galaxy lies and how it is seen; lengths in frame widths."""

    x: float
    y: float
    effective_radius: float
    axis_ratio: float = 1.0  # minor over major axis: of a disk, the cosine of its inclination
    position_angle: float = 0.0
    flux: float = 1.0
    warp: float = 0.0  # root mean square displacement of its light, in effective radii

    def plane(self, sky: Sky, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (G, G) along the major and minor axis on the sky, displaced by `warp`."""
        dx, dy = sky.x - self.x, sky.y - self.y
        if self.warp:
            reach = self.warp * self.effective_radius
            dx = dx + reach * smooth_field(sky, rng, 1.6 * self.effective_radius)
            dy = dy + reach * smooth_field(sky, rng, 1.6 * self.effective_radius)
        cosine, sine = np.cos(self.position_angle), np.sin(self.position_angle)
        return cosine * dx + sine * dy, cosine * dy - sine * dx

    def at(self, radius, angle) -> tuple[np.ndarray, np.ndarray]:
        """Sky position of a point of the disk, given in its own polar coordinates."""
        u, v = radius * np.cos(angle), radius * np.sin(angle) * self.axis_ratio
        cosine, sine = np.cos(self.position_angle), np.sin(self.position_angle)
        return self.x + cosine * u - sine * v, self.y + sine * u + cosine * v


def spheroid(sky: Sky, body: Body, rng: np.random.Generator) -> None:
    """A smooth galaxy: one Sersic profile, sometimes with a faint halo or an inner disk, mostly
    old stars.
    """
    u, v = body.plane(sky, rng)
    age = rng.uniform(0.25, 0.7) if rng.random() < 0.3 else rng.uniform(0.65, 1.0)
    index = rng.uniform(1.0, 4.0)
    profile = sersic(
        u,
        v,
        body.effective_radius,
        index,
        axis_ratio=body.axis_ratio,
        boxiness=rng.uniform(-0.15, 0.15),
    )
    sky.paint(profile, body.flux * 0.85, age)
    halo_ratio = body.axis_ratio + 0.3 * rng.random() * (1 - body.axis_ratio)
    sky.paint(
        sersic(u, v, 1.5 * body.effective_radius, 1.0, axis_ratio=halo_ratio),
        body.flux * 0.15,
        age - 0.1,
    )


@dataclass(frozen=True)
class Arms:
    """Logarithmic spiral: how a disk's young stars are wound."""

    number: int
    pitch_angle: float  # radians between the arm and a circle; negative winds the other way
    phase: float  # azimuth of the first arm at `start`
    start: float  # radius where the arms begin
    sharpness: float  # of the ridge across the arm

    def azimuth(self, radius, arm) -> np.ndarray:
        return (
            self.phase
            + TWO_PI * arm / self.number
            + np.log(radius / self.start) / np.tan(self.pitch_angle)
        )

    def ridge(self, radius: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
        """1 on an arm, towards 0 between arms and inside `start`."""
        winding = self.number * (azimuth - self.azimuth(radius, 0))
        return np.exp(self.sharpness * (np.cos(winding) - 1)) / (1 + (self.start / radius) ** 6)


def disk(
    sky: Sky, body: Body, rng: np.random.Generator, pitch_degrees: float, *, barred: bool = False
) -> None:
    """A disk galaxy: old exponential disk and bulge, a bar if it has one, young arms with
    star-forming knots.
    """
    u, v = body.plane(sky, rng)
    bulge = rng.uniform(0.04, 0.14) if barred else rng.uniform(0.06, 0.28)
    bar = rng.uniform(0.14, 0.26) if barred else 0.0
    arms_share = rng.uniform(0.34, 0.62)  # of the disk's light
    age = rng.uniform(0.3, 0.8)
    radius = body.effective_radius * rng.uniform(1.0, 1.25)  # the disk's
    bulge_ratio = body.axis_ratio + 0.6 * (1 - body.axis_ratio)
    sky.paint(
        sersic(
            u, v, radius * rng.uniform(0.12, 0.26), rng.uniform(1.2, 3.0), axis_ratio=bulge_ratio
        ),
        body.flux * bulge,
        min(age + 0.35, 1.0),
    )

    v = v / body.axis_ratio  # from here on face-on coordinates
    bar_length, bar_angle = radius * rng.uniform(0.55, 0.85), rng.uniform(0, np.pi)
    if barred:
        profile = sersic(
            u,
            v,
            0.55 * bar_length,
            rng.uniform(0.35, 0.6),
            axis_ratio=rng.uniform(0.18, 0.36),
            position_angle=bar_angle,
            boxiness=rng.uniform(0.2, 1.2),
        )
        sky.paint(profile, body.flux * bar, min(age + 0.3, 1.0))

    arms = Arms(
        number=2 if barred else int(rng.choice([2, 3, 4], p=[0.62, 0.26, 0.12])),
        pitch_angle=np.deg2rad(pitch_degrees) * rng.choice([-1, 1]),
        phase=bar_angle if barred else rng.uniform(0, TWO_PI),
        start=0.95 * bar_length if barred else radius * rng.uniform(0.22, 0.38),
        sharpness=rng.uniform(1.0, 3.2),
    )
    light = body.flux * (1 - bulge - bar)
    distance, azimuth = np.hypot(u, v) + 1e-6, np.arctan2(v, u)
    exponential = sersic(u, v, radius, 1.0)
    sky.paint(exponential, light * (1 - arms_share), age)
    lopsided = 1 + rng.uniform(0, 0.5) * np.cos(azimuth - rng.uniform(0, TWO_PI))
    patchy = np.exp(0.45 * smooth_field(sky, rng, 0.05))
    ragged = azimuth + 0.3 * smooth_field(sky, rng, 0.08)
    arm_light = sersic(u, v, 1.15 * radius, 0.8) * arms.ridge(distance, ragged) * lopsided * patchy
    sky.paint(arm_light, light * arms_share * 0.93, age - 0.3)
    star_forming_knots(sky, body, rng, arms, radius, light * arms_share * 0.07, age - 0.6)


def star_forming_knots(
    sky: Sky, body: Body, rng, arms: Arms, radius: float, flux: float, age: float
) -> None:
    """HII regions strung along the arms, unresolved."""
    number = int(rng.integers(8, 30))
    distance = arms.start + radius * rng.gamma(2.0, 0.35, number)
    azimuth = arms.azimuth(distance, rng.integers(arms.number, size=number)) + rng.normal(
        0, 0.14, number
    )
    share = rng.dirichlet(np.full(number, 0.7))
    sky.points(*body.at(distance, azimuth), flux * share, age)


def edge_on(sky: Sky, body: Body, rng: np.random.Generator, bulge: float) -> None:
    """A disk from the side: thin, often with a dust lane, with the given share of its light in a
    bulge.
    """
    body = replace(body, warp=min(body.warp, 0.03))
    u, v = body.plane(sky, rng)
    age = rng.uniform(0.3, 0.9)
    before = sky.light.copy()
    bend = rng.normal(0, 0.03) * u * np.abs(u) / body.effective_radius  # the S of a warped disk
    thin = sersic(
        u, v + bend, body.effective_radius, rng.uniform(0.7, 1.1), axis_ratio=body.axis_ratio
    )
    sky.paint(thin, body.flux * (1 - bulge) * 0.8, age)
    thick = sersic(
        u, v, 0.9 * body.effective_radius, 1.0, axis_ratio=min(2.0 * body.axis_ratio, 0.5)
    )
    sky.paint(thick, body.flux * (1 - bulge) * 0.2, min(age + 0.2, 1.0))
    profile = sersic(
        u,
        v,
        body.effective_radius * rng.uniform(0.22, 0.38),
        rng.uniform(1.2, 3.0),
        axis_ratio=rng.uniform(0.6, 0.95),
    )
    sky.paint(profile, body.flux * bulge, min(age + 0.3, 1.0))
    depth = rng.uniform(0.3, 1.6) if rng.random() < 0.55 else 0.0
    height = body.axis_ratio * body.effective_radius
    lane = np.exp(-0.5 * ((v + bend - rng.normal(0, 0.25) * height) / (0.3 * height)) ** 2)
    lane *= np.exp(-((u / (1.3 * body.effective_radius)) ** 2))
    sky.light = before + (sky.light - before) * np.exp(-depth * DUST[:, None, None] * lane)


def tidal_tail(sky: Sky, body: Body, rng: np.random.Generator, flux: float, age: float) -> None:
    """One wide arm pulled out of a galaxy, fading outwards."""
    u, v = body.plane(sky, rng)
    radius, azimuth = np.hypot(u, v) + 1e-6, np.arctan2(v, u)
    start = body.effective_radius * rng.uniform(0.8, 1.3)
    opening = rng.uniform(0.6, 1.8) * rng.choice([-1, 1])
    away = azimuth - rng.uniform(0, TWO_PI) - opening * np.log(radius / start)
    across = radius * (np.mod(away + np.pi, TWO_PI) - np.pi)
    width = body.effective_radius * rng.uniform(0.18, 0.5)
    reach = body.effective_radius * rng.uniform(0.5, 1.3)
    sky.paint(
        np.exp(-0.5 * (across / width) ** 2 - radius / reach) / (1 + (start / radius) ** 4),
        flux,
        age,
    )


def shell(sky: Sky, body: Body, rng: np.random.Generator, flux: float, age: float) -> None:
    """An arc of stars, left by a galaxy that fell in."""
    u, v = body.plane(sky, rng)
    radius, azimuth = np.hypot(u, v / max(body.axis_ratio, 0.6)), np.arctan2(v, u)
    where, width = (
        body.effective_radius * rng.uniform(*limits) for limits in ((1.2, 2.6), (0.12, 0.3))
    )
    extent = np.exp(rng.uniform(1.5, 5) * (np.cos(azimuth - rng.uniform(0, TWO_PI)) - 1))
    sky.paint(np.exp(-0.5 * ((radius - where) / width) ** 2) * extent, flux, age)


def any_galaxy(sky: Sky, body: Body, rng: np.random.Generator) -> None:
    """A galaxy of either kind, as found in interactions."""
    if rng.random() < 0.4:
        spheroid(sky, body, rng)
    else:
        disk(sky, body, rng, rng.uniform(12, 32), barred=rng.random() < 0.15)


def disturbed(sky: Sky, body: Body, rng: np.random.Generator) -> None:
    """One galaxy out of shape: displaced light, tails or shells, at times the remains of a
    second core.
    """
    debris = rng.uniform(0.1, 0.32) * body.flux
    body = replace(
        body, axis_ratio=rng.uniform(0.4, 1.0), warp=rng.uniform(0.2, 0.5), flux=body.flux - debris
    )
    any_galaxy(sky, body, rng)
    number = int(rng.integers(1, 4))
    for share in rng.dirichlet(np.full(number, 2.0)):
        part = tidal_tail if rng.random() < 0.65 else shell
        part(sky, body, rng, debris * share, rng.uniform(0.1, 0.8))
    if rng.random() < 0.25:
        core = body.at(body.effective_radius * rng.uniform(0.3, 0.9), rng.uniform(0, TWO_PI))
        remains = replace(
            body,
            x=core[0],
            y=core[1],
            effective_radius=0.3 * body.effective_radius,
            flux=0.1 * body.flux,
        )
        spheroid(sky, remains, rng)


def merging(sky: Sky, body: Body, rng: np.random.Generator) -> None:
    """Two galaxies, at times three, within reach of each other, most of them with tails."""
    number = 3 if rng.random() < 0.12 else 2
    shares = np.cumprod([1.0, *rng.uniform(0.3, 1.0, number - 1)])
    shares *= body.flux / shares.sum()
    separation, direction = body.effective_radius * rng.uniform(1.0, 2.4), rng.uniform(0, TWO_PI)
    for member, share in enumerate(shares):
        angle = direction + member * np.pi * (1 if member < 2 else rng.uniform(0.6, 0.8))
        distance = separation * (1 - share / body.flux)
        one = Body(
            x=body.x + distance * np.cos(angle),
            y=body.y + distance * np.sin(angle),
            effective_radius=0.8 * body.effective_radius * np.sqrt(share / shares[0]),
            axis_ratio=rng.uniform(0.35, 1.0),
            position_angle=rng.uniform(0, np.pi),
            flux=share,
            warp=rng.uniform(0.05, 0.32),
        )
        tail = share * rng.uniform(0.05, 0.25) if rng.random() < 0.7 else 0.0
        any_galaxy(sky, replace(one, flux=share - tail), rng)
        if tail:
            tidal_tail(sky, one, rng, tail, rng.uniform(0.1, 0.7))


def target(label: int, sky: Sky, body: Body, rng: np.random.Generator) -> None:
    """Draws a galaxy of the class: the one place where a label decides anything."""

    def seen(low, high):
        return replace(body, axis_ratio=rng.uniform(low, high))

    match CLASS_NAMES[label]:
        case "disturbed":
            disturbed(sky, body, rng)
        case "merging":
            merging(sky, body, rng)
        case "round smooth":
            spheroid(sky, seen(0.82, 1.0), rng)
        case "in-between round smooth":
            spheroid(sky, seen(0.48, 0.85), rng)
        case "cigar-shaped smooth":
            spheroid(sky, seen(0.17, 0.5), rng)
        case "barred spiral":
            disk(sky, seen(0.5, 1.0), rng, rng.uniform(12, 28), barred=True)
        case "unbarred tight spiral":
            disk(sky, seen(0.5, 1.0), rng, rng.uniform(7, 15))
        case "unbarred loose spiral":
            disk(sky, seen(0.5, 1.0), rng, rng.uniform(17, 36))
        case "edge-on without bulge":
            edge_on(sky, seen(0.08, 0.24), rng, bulge=rng.uniform(0.0, 0.08))
        case "edge-on with bulge":
            edge_on(sky, seen(0.08, 0.24), rng, bulge=rng.uniform(0.1, 0.45))


def field(sky: Sky, rng: np.random.Generator) -> None:
    """What lies in every direction: foreground stars, faint galaxies behind, now and then a
    neighbour.
    """
    stars = int(rng.poisson(2.0))
    flux = 1.5e-4 * (1 - rng.random(stars)) ** -1.1  # power law: few bright ones
    for x, y, brightness in zip(
        *rng.uniform(-0.55, 0.55, (2, stars)), np.minimum(flux, 0.02), strict=True
    ):
        sky.points(np.array([x]), np.array([y]), np.array([brightness]), rng.uniform(-0.4, 1.3))
    for _ in range(int(rng.poisson(3.0))):
        neighbour = rng.random() < 0.07
        radius = rng.uniform(0.025, 0.05) if neighbour else 0.006 * rng.uniform(1, 3)
        surface_brightness = rng.lognormal(-1.2, 0.5)
        x, y = rng.uniform(-0.5, 0.5, 2)
        distant_galaxy(
            sky,
            Body(
                x,
                y,
                radius,
                rng.uniform(0.3, 1),
                rng.uniform(0, np.pi),
                flux=surface_brightness * TWO_PI * radius**2,
            ),
            rng.uniform(0.1, 1.4),
        )


def distant_galaxy(sky: Sky, body: Body, age: float) -> None:
    """A small exponential profile, computed only in the few cells that it covers."""
    reach = 6 * body.effective_radius
    rows, columns = (
        slice(*np.searchsorted(sky.axis, [c - reach, c + reach])) for c in (body.y, body.x)
    )
    profile = sersic(
        sky.x[rows, columns] - body.x,
        sky.y[rows, columns] - body.y,
        body.effective_radius,
        1.0,
        axis_ratio=body.axis_ratio,
        position_angle=body.position_angle,
    )
    scale = body.flux / (profile.sum() * sky.cell**2)
    sky.light[:, rows, columns] += profile * (scale * spectrum(age, sky.reddening))[:, None, None]


def observe(sky: Sky, rng: np.random.Generator) -> np.ndarray:
    """Atmosphere, detector and noise: image bands (3, H, W) in g, r, z, surface brightness."""
    # FWHM in g, r, z
    seeing = rng.uniform(0.016, 0.03) * np.array([1.07, 1.0, 0.93]) * rng.normal(1, 0.04, 3)
    wings = rng.uniform(0.06, 0.16)  # share of a star's light in the broad part
    # of one pixel of a 64-pixel image
    noise = 0.011 * rng.lognormal(0, 0.25) * np.array([0.9, 1.0, 1.25])
    offset = rng.normal(0, 0.004, 3)  # left by the subtraction of the sky
    frequency = scipy.fft.fftfreq(sky.grid, sky.cell), scipy.fft.rfftfreq(sky.grid, sky.cell)
    # Gaussian, transformed: (3, F)
    decay = [-2 * (np.pi * seeing[:, None] / 2.355 * f) ** 2 for f in frequency]
    core, broad = (
        np.exp(k * decay[0])[:, :, None] * np.exp(k * decay[1])[:, None, :] for k in (1.0, 2.3**2)
    )
    blurred = scipy.fft.irfft2(
        scipy.fft.rfft2(sky.light) * ((1 - wings) * core + wings * broad), (sky.grid, sky.grid)
    )
    inside = blurred[:, sky.margin : -sky.margin, sky.margin : -sky.margin]
    # (3, H, W)
    image = inside.reshape(3, sky.size, sky.oversampling, sky.size, sky.oversampling).mean(
        axis=(2, 4)
    )
    # White noise: averaging pixels averages it, so smaller pixels are noisier. Photons add theirs
    # where there is light.
    variance = noise[:, None, None] ** 2 + 4e-4 * np.maximum(image, 0)
    return (
        image
        + offset[:, None, None]
        + np.sqrt(variance) * sky.size / 64 * rng.standard_normal(image.shape)
    )


def render(label: int, *, size: int = 64, rng: np.random.Generator) -> np.ndarray:
    """A galaxy of class `label` as uint8 (size, size, 3), red from z, green from r, blue from g."""
    g, r, z = bands(label, size=size, rng=rng)
    from astropy.visualization import make_lupton_rgb

    return make_lupton_rgb(z, r, g, minimum=-0.015, stretch=0.4, Q=7)


def bands(
    label: int, *, size: int = 64, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same as it is observed in g, r and z: three float arrays (size, size), the sky taken
    away, in units in which a galaxy's mean brightness is about 0.3.
    """
    if not 0 <= label < len(CLASS_NAMES):
        raise ValueError(
            f"no class {label}: give a label from 0 to {len(CLASS_NAMES) - 1} (see CLASS_NAMES)"
        )
    if size < SMALLEST:
        raise ValueError(
            f"a galaxy of {size} pixels shows nothing: give a size of at least {SMALLEST}"
        )
    sky = Sky(size, reddening=rng.normal(0.0, 0.13))
    radius = 0.115 * np.exp(np.clip(rng.normal(0, 0.24), -0.55, 0.55))
    surface_brightness = 0.32 * np.exp(rng.normal(0, 0.38))  # mean inside the effective radius
    x, y = rng.normal(0, 0.012, 2)  # a cut-out is centred on the catalogue's position
    body = Body(
        x,
        y,
        radius,
        1.0,
        rng.uniform(0, np.pi),
        surface_brightness * TWO_PI * radius**2,
        rng.uniform(0, 0.08),
    )
    target(label, sky, body, rng)
    field(sky, rng)
    return observe(sky, rng)


def label_at(index: int, *, seed: int) -> int:
    """Class of image `index`: each ten consecutive indices hold each class once, in an order of
    their own.
    """
    block, place = divmod(index, len(CLASS_NAMES))
    return int(
        np.random.default_rng([seed, block, VERSION, len(CLASS_NAMES)]).permutation(
            len(CLASS_NAMES)
        )[place]
    )


def image_at(index: int, *, size: int, seed: int) -> np.ndarray:
    """Image `index` of a seed: the same whoever computes it, and whichever images are computed
    with it.
    """
    return render(
        label_at(index, seed=seed), size=size, rng=np.random.default_rng([seed, index, VERSION])
    )


def main() -> None:
    """Writes the images' bytes to standard output, one image after the other."""
    parser = argparse.ArgumentParser(
        description="Writes galaxies to standard output: uint8, (number, size, size, 3)."
    )
    for name in ("number", "size", "seed", "first"):
        parser.add_argument(f"--{name}", type=int, required=True)
    wanted = parser.parse_args()
    for index in range(wanted.first, wanted.first + wanted.number):
        sys.stdout.buffer.write(image_at(index, size=wanted.size, seed=wanted.seed).tobytes())


if __name__ == "__main__":
    main()
