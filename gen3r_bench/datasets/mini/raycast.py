"""The ray caster behind `mini`: analytic primitives, textures and lights, in numba kernels with repeatable bytes.

Kernels are single-threaded, release the GIL and never use fast maths. The world is z-up, in metres. A ray is
``origin + t * direction`` with a direction whose camera z is 1, so ``t`` IS the z-depth.

A primitive is a kind, 16 numbers and two textures (sides; top and bottom):

========= ======================================================================================
RECT      0:3 centre, 3:6 and 6:9 unit axes, 9:11 half sizes, 11:14 normal; seen from both sides
BOX       0:3 centre, 3:5 cosine and sine of the yaw, 5:8 half sizes
ELLIPSOID 0:3 centre, 3:5 cosine and sine of the yaw, 5:8 semi-axes
FRUSTUM   0:3 centre of the base, 3:5 yaw, 5 bottom radius, 6 top radius, 7 height; closed by two discs
all       14 metres that one texture covers, 15 emitted light
========= ======================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

RECT = 0
BOX = 1
ELLIPSOID = 2
FRUSTUM = 3
SUBSAMPLES = 3
"""Rays a pixel and axis for colour at edges, one less inside a face; depth is one ray through the pixel's centre."""

_EPSILON = 1e-6


def _kernel(function: Callable[..., Any]) -> Any:
    """Compile on first call and keep the result on disk, where there is a place to write it."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # a read-only installation without a home folder
        return njit(nogil=True, error_model="numpy")(function)


@_kernel
def _to_local(data, i, x, y, z):  # type: ignore[no-untyped-def]
    dx = x - data[i, 0]
    dy = y - data[i, 1]
    return data[i, 3] * dx + data[i, 4] * dy, data[i, 3] * dy - data[i, 4] * dx, z - data[i, 2]


@_kernel
def _hit_rect(data, i, ox, oy, oz, dx, dy, dz):  # type: ignore[no-untyped-def]
    slope = dx * data[i, 11] + dy * data[i, 12] + dz * data[i, 13]
    if slope == 0.0:
        return np.inf, 0
    t = ((data[i, 0] - ox) * data[i, 11] + (data[i, 1] - oy) * data[i, 12] + (data[i, 2] - oz) * data[i, 13]) / slope
    if t <= _EPSILON:
        return np.inf, 0
    x = ox + t * dx - data[i, 0]
    y = oy + t * dy - data[i, 1]
    z = oz + t * dz - data[i, 2]
    if abs(x * data[i, 3] + y * data[i, 4] + z * data[i, 5]) > data[i, 9]:
        return np.inf, 0
    if abs(x * data[i, 6] + y * data[i, 7] + z * data[i, 8]) > data[i, 10]:
        return np.inf, 0
    return t, 0


@_kernel
def _hit_box(data, i, ox, oy, oz, dx, dy, dz):  # type: ignore[no-untyped-def]
    px, py, pz = _to_local(data, i, ox, oy, oz)
    lx = data[i, 3] * dx + data[i, 4] * dy
    ly = data[i, 3] * dy - data[i, 4] * dx
    near = -np.inf
    far = np.inf
    near_face = 0
    far_face = 0
    for axis in range(3):
        if axis == 0:
            p, d = px, lx
        elif axis == 1:
            p, d = py, ly
        else:
            p, d = pz, dz
        half = data[i, 5 + axis]
        if d == 0.0:
            if abs(p) > half:
                return np.inf, 0
            continue
        a = (-half - p) / d
        b = (half - p) / d
        face_a = 2 * axis
        face_b = 2 * axis + 1
        if a > b:
            a, b = b, a
            face_a, face_b = face_b, face_a
        if a > near:
            near = a
            near_face = face_a
        if b < far:
            far = b
            far_face = face_b
        if near > far:
            return np.inf, 0
    if near > _EPSILON:
        return near, near_face
    if far > _EPSILON:
        return far, far_face
    return np.inf, 0


@_kernel
def _hit_ellipsoid(data, i, ox, oy, oz, dx, dy, dz):  # type: ignore[no-untyped-def]
    px, py, pz = _to_local(data, i, ox, oy, oz)
    px /= data[i, 5]
    py /= data[i, 6]
    pz /= data[i, 7]
    lx = (data[i, 3] * dx + data[i, 4] * dy) / data[i, 5]
    ly = (data[i, 3] * dy - data[i, 4] * dx) / data[i, 6]
    lz = dz / data[i, 7]
    a = lx * lx + ly * ly + lz * lz
    b = px * lx + py * ly + pz * lz
    c = px * px + py * py + pz * pz - 1.0
    root = b * b - a * c
    if root < 0.0:
        return np.inf, 0
    root = math.sqrt(root)
    t = (-b - root) / a
    if t > _EPSILON:
        return t, 0
    t = (-b + root) / a
    if t > _EPSILON:
        return t, 0
    return np.inf, 0


@_kernel
def _hit_frustum(data, i, ox, oy, oz, dx, dy, dz):  # type: ignore[no-untyped-def]
    px = ox - data[i, 0]
    py = oy - data[i, 1]
    pz = oz - data[i, 2]
    height = data[i, 7]
    widening = (data[i, 6] - data[i, 5]) / height
    radius = data[i, 5] + widening * pz
    best = np.inf
    face = 0
    a = dx * dx + dy * dy - widening * widening * dz * dz
    b = px * dx + py * dy - radius * widening * dz
    c = px * px + py * py - radius * radius
    root = b * b - a * c
    if root >= 0.0:
        root = math.sqrt(root)
        for sign in range(2):
            if abs(a) < 1e-14:
                t = -0.5 * c / b
            elif sign == 0:
                t = (-b - root) / a
            else:
                t = (-b + root) / a
            z = pz + t * dz
            if _EPSILON < t < best and 0.0 <= z <= height:
                best = t
    for cap in range(2):
        level = height if cap == 0 else 0.0
        reach = data[i, 6] if cap == 0 else data[i, 5]
        t = (level - pz) / dz
        x = px + t * dx
        y = py + t * dy
        if _EPSILON < t < best and x * x + y * y <= reach * reach:
            best = t
            face = cap + 1
    return best, face


@_kernel
def intersect(kind, data, i, ox, oy, oz, dx, dy, dz):  # type: ignore[no-untyped-def]
    """First hit of a ray with primitive ``i``: (t, face), t infinite where there is none."""
    if kind == RECT:
        return _hit_rect(data, i, ox, oy, oz, dx, dy, dz)
    if kind == BOX:
        return _hit_box(data, i, ox, oy, oz, dx, dy, dz)
    if kind == ELLIPSOID:
        return _hit_ellipsoid(data, i, ox, oy, oz, dx, dy, dz)
    return _hit_frustum(data, i, ox, oy, oz, dx, dy, dz)


@_kernel
def _passes(spheres, group, ox, oy, oz, dx, dy, dz, dd, limit):  # type: ignore[no-untyped-def]
    """Whether a ray can touch a group's bounding sphere before ``limit``."""
    radius = spheres[group, 3]
    if radius == np.inf:
        return True
    cx = spheres[group, 0] - ox
    cy = spheres[group, 1] - oy
    cz = spheres[group, 2] - oz
    along = (cx * dx + cy * dy + cz * dz) / dd
    distance2 = cx * cx + cy * cy + cz * cz
    if distance2 - along * along * dd > radius * radius:
        return False
    if distance2 <= radius * radius:
        return True
    return along > 0.0 and along - radius / math.sqrt(dd) < limit


@_kernel
def trace(kinds, data, spheres, ranges, ox, oy, oz, dx, dy, dz):  # type: ignore[no-untyped-def]
    """First hit of a ray with the world: (t, primitive, face); the primitive is -1 where the ray leaves."""
    best = np.inf
    primitive = -1
    face = 0
    dd = dx * dx + dy * dy + dz * dz
    for group in range(len(ranges)):
        if not _passes(spheres, group, ox, oy, oz, dx, dy, dz, dd, best):
            continue
        for i in range(ranges[group, 0], ranges[group, 1]):
            t, side = intersect(kinds[i], data, i, ox, oy, oz, dx, dy, dz)
            if t < best:
                best = t
                primitive = i
                face = side
    return best, primitive, face


@_kernel
def _blocked(kinds, data, spheres, ranges, ox, oy, oz, dx, dy, dz, limit):  # type: ignore[no-untyped-def]
    """Whether something stands before a light; walls and ground (unbounded groups) enclose the lights and never do."""
    dd = dx * dx + dy * dy + dz * dz
    for group in range(len(ranges)):
        if spheres[group, 3] == np.inf or not _passes(spheres, group, ox, oy, oz, dx, dy, dz, dd, limit):
            continue
        for i in range(ranges[group, 0], ranges[group, 1]):
            t, _ = intersect(kinds[i], data, i, ox, oy, oz, dx, dy, dz)
            if t < limit and data[i, 15] == 0.0:
                return True
    return False


@_kernel
def _surface(kind, data, i, face, x, y, z):  # type: ignore[no-untyped-def]
    """Outward normal and texture coordinates (in textures, mirrored beyond 1) of a point on a primitive."""
    period = data[i, 14]
    if kind == RECT:
        rx = x - data[i, 0]
        ry = y - data[i, 1]
        rz = z - data[i, 2]
        u = rx * data[i, 3] + ry * data[i, 4] + rz * data[i, 5] + data[i, 9]
        v = rx * data[i, 6] + ry * data[i, 7] + rz * data[i, 8] + data[i, 10]
        return data[i, 11], data[i, 12], data[i, 13], u / period, v / period
    px, py, pz = _to_local(data, i, x, y, z)
    nx, ny, nz, u, v = 0.0, 0.0, 0.0, 0.0, 0.0
    if kind == BOX:
        sign = 1.0 if face % 2 == 1 else -1.0
        if face < 2:
            nx = sign
            u = (py + data[i, 6]) / period
            v = (data[i, 7] - pz) / period
        elif face < 4:
            ny = sign
            u = (px + data[i, 5]) / period
            v = (data[i, 7] - pz) / period
        else:
            nz = sign
            u = (px + data[i, 5]) / period
            v = (py + data[i, 6]) / period
    elif kind == ELLIPSOID:
        sx = px / data[i, 5]
        sy = py / data[i, 6]
        sz = min(1.0, max(-1.0, pz / data[i, 7]))
        u = math.atan2(sy, sx) / math.pi + 1.0
        v = math.acos(sz) / math.pi
        nx = sx / data[i, 5]
        ny = sy / data[i, 6]
        nz = sz / data[i, 7]
    elif face == 0:
        u = math.atan2(py, px) / math.pi + 1.0
        v = (data[i, 7] - pz) / period
        nx = px
        ny = py
        nz = math.sqrt(px * px + py * py) * (data[i, 5] - data[i, 6]) / data[i, 7]
    else:
        nz = 1.0 if face == 1 else -1.0
        u = (px + period) / period
        v = (py + period) / period
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    nx /= length
    ny /= length
    nz /= length
    return data[i, 3] * nx - data[i, 4] * ny, data[i, 4] * nx + data[i, 3] * ny, nz, u, v


@_kernel
def _mirrored(u):  # type: ignore[no-untyped-def]
    u = u - 2.0 * math.floor(0.5 * u)
    return 2.0 - u if u > 1.0 else u


@_kernel
def _texel(texels, entries, i, u, v):  # type: ignore[no-untyped-def]
    """Bilinear sample of a texture, mirrored beyond its edges; linear light."""
    offset = entries[i, 0]
    size = entries[i, 1]
    x = min(max(_mirrored(u) * size - 0.5, 0.0), size - 1.0)
    y = min(max(_mirrored(v) * size - 0.5, 0.0), size - 1.0)
    x0 = int(x)
    y0 = int(y)
    x1 = min(x0 + 1, size - 1)
    y1 = min(y0 + 1, size - 1)
    fx = x - x0
    fy = y - y0
    a = offset + y0 * size
    b = offset + y1 * size
    w00 = (1.0 - fx) * (1.0 - fy)
    w01 = fx * (1.0 - fy)
    w10 = (1.0 - fx) * fy
    w11 = fx * fy
    red = w00 * texels[a + x0, 0] + w01 * texels[a + x1, 0] + w10 * texels[b + x0, 0] + w11 * texels[b + x1, 0]
    green = w00 * texels[a + x0, 1] + w01 * texels[a + x1, 1] + w10 * texels[b + x0, 1] + w11 * texels[b + x1, 1]
    blue = w00 * texels[a + x0, 2] + w01 * texels[a + x1, 2] + w10 * texels[b + x0, 2] + w11 * texels[b + x1, 2]
    return red, green, blue


@_kernel
def _toward(lights, i, x, y, z):  # type: ignore[no-untyped-def]
    """Vector to a light and how much of it arrives.

    A light: 0 sun (0), point (1) or fill (2, a point light without shadows), 1:4 place or direction, 4:7 colour,
    7 metres at which a point light has halved.
    """
    if lights[i, 0] == 0.0:
        return lights[i, 1], lights[i, 2], lights[i, 3], 1.0
    lx = lights[i, 1] - x
    ly = lights[i, 2] - y
    lz = lights[i, 3] - z
    return lx, ly, lz, 1.0 / (1.0 + (lx * lx + ly * ly + lz * lz) / (lights[i, 7] * lights[i, 7]))


@_kernel
def _lit(kinds, data, spheres, ranges, lights, primitive, face, x, y, z, vx, vy, vz):  # type: ignore[no-untyped-def]
    """Bit l is set where light l reaches the point of a surface seen along (vx, vy, vz)."""
    nx, ny, nz, _, _ = _surface(kinds[primitive], data, primitive, face, x, y, z)
    side = -1e-4 if nx * vx + ny * vy + nz * vz > 0.0 else 1e-4
    ox = x + side * nx
    oy = y + side * ny
    oz = z + side * nz
    bits = 0
    for i in range(len(lights)):
        lx, ly, lz, _ = _toward(lights, i, x, y, z)
        limit = np.inf if lights[i, 0] == 0.0 else 1.0
        facing = (nx * lx + ny * ly + nz * lz) * side > 0.0
        blockable = facing and lights[i, 0] != 2.0
        if facing and not (blockable and _blocked(kinds, data, spheres, ranges, ox, oy, oz, lx, ly, lz, limit)):
            bits |= 1 << i
    return bits


@_kernel
def _radiance(kinds, data, skins, texels, entries, lights, sky, primitive, face, bits, x, y, z, vx, vy, vz):  # type: ignore[no-untyped-def]
    """Light that leaves a surface point towards the camera: texture times (ambient + lights that reach it)."""
    nx, ny, nz, u, v = _surface(kinds[primitive], data, primitive, face, x, y, z)
    if nx * vx + ny * vy + nz * vz > 0.0:
        nx, ny, nz = -nx, -ny, -nz
    up = 0.5 + 0.5 * nz
    red = sky[0] * up + sky[3] * (1.0 - up)
    green = sky[1] * up + sky[4] * (1.0 - up)
    blue = sky[2] * up + sky[5] * (1.0 - up)
    for i in range(len(lights)):
        lx, ly, lz, arrives = _toward(lights, i, x, y, z)
        facing = (nx * lx + ny * ly + nz * lz) / math.sqrt(lx * lx + ly * ly + lz * lz)
        if facing > 0.0 and (bits >> i) & 1:
            red += lights[i, 4] * facing * arrives
            green += lights[i, 5] * facing * arrives
            blue += lights[i, 6] * facing * arrives
    kind = kinds[primitive]
    top = (kind == BOX and face >= 4) or (kind == FRUSTUM and face >= 1)
    r, g, b = _texel(texels, entries, skins[primitive, 1 if top else 0], u, v)
    glow = data[primitive, 15]
    return r * (red + glow), g * (green + glow), b * (blue + glow)


@_kernel
def _sky(texels, entries, sky, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Sky in a direction, with clouds on a high plane. ``sky``: 6:9 zenith, 9:12 horizon, 13 cloud texture."""
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    up = max(dz / length, 0.0)
    mix = math.sqrt(up)
    r, g, b = _texel(texels, entries, int(sky[13]), dx / length / (up + 0.25), dy / length / (up + 0.25))
    cloud = min(1.0, max(0.0, 0.333 * (r + g + b))) * min(1.0, 4.0 * up)
    red = (sky[6] * mix + sky[9] * (1.0 - mix)) * (1.0 - cloud) + cloud * sky[9]
    green = (sky[7] * mix + sky[10] * (1.0 - mix)) * (1.0 - cloud) + cloud * sky[10]
    blue = (sky[8] * mix + sky[11] * (1.0 - mix)) * (1.0 - cloud) + cloud * sky[11]
    return red, green, blue


@_kernel
def _encoded(value):  # type: ignore[no-untyped-def]
    """Linear light to a display value in 0..1: Reinhard's shoulder, white at 2.5, then gamma."""
    mapped = value * (1.0 + value / 6.25) / (1.0 + value)
    return min(1.0, mapped) ** 0.4545


@_kernel
def render(  # type: ignore[no-untyped-def]
    kinds, data, skins, spheres, ranges, texels, entries, lights, sky, pose, focal, cx, cy, rgb, depth
):
    """Fill ``rgb`` [H, W, 3] uint8 and ``depth`` [H, W] float32 (0: sky) of one frame.

    ``pose`` is world_from_cam in OpenCV axes. Depth is one ray through each pixel's centre. Colour is the mean
    of 4 or 9 rays against the primitives that the centres of the pixel and its eight neighbours see, and a
    shadow is traced again only where those disagree about it. Entry 12 of ``sky`` is the exposure.
    """
    height, width = depth.shape
    seen = np.empty((height, width), dtype=np.int64)
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    for row in range(height):
        for column in range(width):
            a = (column + 0.5 - cx) / focal
            b = (row + 0.5 - cy) / focal
            dx = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2]
            dy = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2]
            dz = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2]
            t, primitive, face = trace(kinds, data, spheres, ranges, ox, oy, oz, dx, dy, dz)
            if primitive < 0:
                depth[row, column] = 0.0
                seen[row, column] = -1
                continue
            depth[row, column] = t
            bits = _lit(
                kinds, data, spheres, ranges, lights, primitive, face, ox + t * dx, oy + t * dy, oz + t * dz, dx, dy, dz
            )
            seen[row, column] = (primitive * 8 + face) * 8 + bits
    near = np.empty(9, dtype=np.int64)
    for row in range(height):
        for column in range(width):
            count = 0
            for r in range(max(row - 1, 0), min(row + 2, height)):
                for c in range(max(column - 1, 0), min(column + 2, width)):
                    new = True
                    for k in range(count):
                        new = new and near[k] != seen[r, c]
                    if new:
                        near[count] = seen[r, c]
                        count += 1
            samples = SUBSAMPLES if count > 1 else SUBSAMPLES - 1
            exposure = sky[12] / (samples * samples)
            red, green, blue = 0.0, 0.0, 0.0
            for sub in range(samples * samples):
                a = (column + (sub % samples + 0.5) / samples - cx) / focal
                b = (row + (sub // samples + 0.5) / samples - cy) / focal
                dx = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2]
                dy = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2]
                dz = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2]
                t = np.inf
                primitive, face = -1, 0
                sky_near = False
                for k in range(count):
                    candidate = near[k] // 64
                    if candidate < 0:
                        sky_near = True
                    elif candidate != primitive:
                        hit, side = intersect(kinds[candidate], data, candidate, ox, oy, oz, dx, dy, dz)
                        if hit < t:
                            t, primitive, face = hit, candidate, side
                if primitive < 0 and not sky_near:
                    t, primitive, face = trace(kinds, data, spheres, ranges, ox, oy, oz, dx, dy, dz)
                if primitive < 0:
                    r_, g_, b_ = _sky(texels, entries, sky, dx, dy, dz)
                else:
                    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
                    bits = -1
                    for k in range(count):
                        if near[k] // 8 == primitive * 8 + face:
                            bits = near[k] % 8 if bits == -1 else -2
                    if bits < 0:
                        bits = _lit(kinds, data, spheres, ranges, lights, primitive, face, x, y, z, dx, dy, dz)
                    r_, g_, b_ = _radiance(
                        kinds, data, skins, texels, entries, lights, sky, primitive, face, bits, x, y, z, dx, dy, dz
                    )
                red += r_
                green += g_
                blue += b_
            rgb[row, column, 0] = int(255.0 * _encoded(red * exposure) + 0.5)
            rgb[row, column, 1] = int(255.0 * _encoded(green * exposure) + 0.5)
            rgb[row, column, 2] = int(255.0 * _encoded(blue * exposure) + 0.5)


@_kernel
def inside(kinds, data, x, y, z, margin):  # type: ignore[no-untyped-def]
    """Index of a solid that holds a point or has it within ``margin`` metres (boxes: of its faces' planes), else -1."""
    for i in range(len(kinds)):
        if kinds[i] == RECT:
            continue
        px, py, pz = _to_local(data, i, x, y, z)
        if kinds[i] == BOX:
            hit = abs(px) < data[i, 5] + margin and abs(py) < data[i, 6] + margin and abs(pz) < data[i, 7] + margin
        elif kinds[i] == ELLIPSOID:
            ax, ay, az = data[i, 5] + margin, data[i, 6] + margin, data[i, 7] + margin
            hit = (px / ax) ** 2 + (py / ay) ** 2 + (pz / az) ** 2 < 1.0
        else:
            reach = max(data[i, 5], data[i, 6]) + margin
            hit = px * px + py * py < reach * reach and -margin < pz < data[i, 7] + margin
        if hit:
            return i
    return -1


@_kernel
def cast(kinds, data, spheres, ranges, pose, reach, depth, primitives):  # type: ignore[no-untyped-def]
    """Fill [n, n] depth (infinite: sky) and primitive indices on a coarse grid over a square view of +-``reach``."""
    n = len(depth)
    for row in range(n):
        for column in range(n):
            a = ((column + 0.5) / n * 2.0 - 1.0) * reach
            b = ((row + 0.5) / n * 2.0 - 1.0) * reach
            depth[row, column], primitives[row, column], _ = trace(
                kinds,
                data,
                spheres,
                ranges,
                pose[0, 3],
                pose[1, 3],
                pose[2, 3],
                pose[0, 0] * a + pose[0, 1] * b + pose[0, 2],
                pose[1, 0] * a + pose[1, 1] * b + pose[1, 2],
                pose[2, 0] * a + pose[2, 1] * b + pose[2, 2],
            )
