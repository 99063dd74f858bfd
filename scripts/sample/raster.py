"""Numba kernels of the sample renderer: z-buffer, normals, strand ribbons and shading."""

import math

import numba as nb
import numpy as np

SKIN, CLOTH, EYE, TEETH, TONGUE, LASH, HAIR = range(7)  # materials

WRAP = (0.35, 0.16, 0.10)  # how far red, green, blue light reaches round the terminator of skin
EDGE = 1e-5  # barycentric slack, so that neighbouring triangles leave no gap

jit = nb.njit(cache=True, fastmath=True, nogil=True)


@jit
def _narrow(slope, start, low, high):
    """The part of a row's span low..high in which slope * u + start is not negative."""
    if slope > 1e-12:
        return max(low, -(start + EDGE) / slope), high
    if slope < -1e-12:
        return low, min(high, -(start + EDGE) / slope)
    return (low, high) if start >= -EDGE else (1.0, 0.0)


@jit
def raster(x, y, z, triangles, depth, index, bary):
    """Nearest triangle of every pixel. x, y px and z [n]; depth, index [H, W], bary [H, W, 2] are
    written in place.
    """
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1 = float(x[a]), float(y[a]), float(x[b]), float(y[b])
        x2, y2 = float(x[c]), float(y[c])
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        inverse = 1.0 / area
        left, right = (
            max(math.ceil(min(x0, x1, x2)), 0),
            min(math.floor(max(x0, x1, x2)), width - 1),
        )
        top, bottom = (
            max(math.ceil(min(y0, y1, y2)), 0),
            min(math.floor(max(y0, y1, y2)), height - 1),
        )
        slope1, slope2 = (
            (y2 - y0) * inverse,
            -(y1 - y0) * inverse,
        )  # of the weights of b and c along a row
        slope0 = -slope1 - slope2
        for v in range(top, bottom + 1):
            start1 = (-x0 * (y2 - y0) - (x2 - x0) * (v - y0)) * inverse
            start2 = ((x1 - x0) * (v - y0) + x0 * (y1 - y0)) * inverse
            low, high = float(left), float(right)
            low, high = _narrow(slope0, 1 - start1 - start2, low, high)
            low, high = _narrow(slope1, start1, low, high)
            low, high = _narrow(slope2, start2, low, high)
            for u in range(math.ceil(low), math.floor(high) + 1):
                w1, w2 = slope1 * u + start1, slope2 * u + start2
                here = z[a] + w1 * (z[b] - z[a]) + w2 * (z[c] - z[a])
                if here < depth[v, u]:
                    depth[v, u], index[v, u] = here, t
                    bary[v, u, 0], bary[v, u, 1] = w1, w2


@jit
def _add_normals(vertices, triangles, out):
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        px, py, pz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        qx, qy, qz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
        for k in range(3):
            i = triangles[t, k]
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        length = math.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-20
        for k in range(3):
            out[i, k] /= length


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals float32 [n, 3], weighted by area."""
    out = np.zeros((len(vertices), 3), np.float32)
    _add_normals(vertices, triangles, out)
    return out


@jit
def ribbons(points, root_rest, root, normals, radius, turn, eye, out, out_normal, out_way):
    """Strands as ribbons that face the camera: 2 vertices a point, written to out, out_normal,
    out_way [m*k*2, 3].
    """
    strands, count = points.shape[0], points.shape[1]
    here, way = np.empty((count, 3), np.float32), np.empty(3, np.float32)
    for s in range(strands):
        for k in range(count):
            for d in range(3):
                here[k, d] = root[s, d]
                for j in range(3):
                    here[k, d] += turn[d, j] * (points[s, k, j] - root_rest[s, j])
        for k in range(count):
            before, after = max(k - 1, 0), min(k + 1, count - 1)
            length = 1e-9
            for d in range(3):
                way[d] = here[after, d] - here[before, d]
                length += way[d] ** 2
            length = math.sqrt(length)
            ex, ey, ez = eye[0] - here[k, 0], eye[1] - here[k, 1], eye[2] - here[k, 2]
            sx, sy, sz = (
                way[1] * ez - way[2] * ey,
                way[2] * ex - way[0] * ez,
                way[0] * ey - way[1] * ex,
            )
            width = (
                radius[s]
                * (1 - 0.75 * k / (count - 1))
                / (math.sqrt(sx * sx + sy * sy + sz * sz) + 1e-9)
            )
            i = (s * count + k) * 2
            out[i, 0], out[i, 1], out[i, 2] = (
                here[k, 0] - sx * width,
                here[k, 1] - sy * width,
                here[k, 2] - sz * width,
            )
            i += 1
            out[i, 0], out[i, 1], out[i, 2] = (
                here[k, 0] + sx * width,
                here[k, 1] + sy * width,
                here[k, 2] + sz * width,
            )
            for d in range(3):
                out_normal[i - 1, d] = out_normal[i, d] = normals[s, d]
                out_way[i - 1, d] = out_way[i, d] = way[d] / length


@jit
def _specular(normal, eye, light, rough, f0):
    """GGX highlight times the cosine, for unit vectors."""
    hx, hy, hz = light[0] + eye[0], light[1] + eye[1], light[2] + eye[2]
    length = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
    hx, hy, hz = hx / length, hy / length, hz / length
    nh = min(max(normal[0] * hx + normal[1] * hy + normal[2] * hz, 0.0), 1.0)
    nl = min(max(normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2], 0.0), 1.0)
    ne = min(max(normal[0] * eye[0] + normal[1] * eye[1] + normal[2] * eye[2], 0.1), 1.0)
    a = rough**4
    spread = a / (math.pi * (nh * nh * (a - 1) + 1) ** 2)
    fresnel = f0 + (1 - f0) * (1 - (hx * eye[0] + hy * eye[1] + hz * eye[2])) ** 5
    return min(spread * fresnel * nl / (2 * (0.25 + 0.75 * ne)), 3.0)


@jit
def _strand(way, normal, eye, light, power):
    """Kajiya-Kay diffuse and highlight of a strand, for unit vectors."""
    along = way[0] * light[0] + way[1] * light[1] + way[2] * light[2]
    facing = normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2]
    hx, hy, hz = light[0] + eye[0], light[1] + eye[1], light[2] + eye[2]
    half = (way[0] * hx + way[1] * hy + way[2] * hz) / (
        math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
    )
    diffuse = math.sqrt(max(1 - along * along, 0.0)) * min(max(0.35 + 0.65 * facing, 0.0), 1.0)
    return diffuse, max(1 - half * half, 0.0) ** (power / 2) * min(
        max(0.3 + 0.7 * facing, 0.0), 1.0
    )


@jit
def _lit(shadow_depth, point, normal, basis, centre, scale):
    """Share of the key light that reaches a point, 0 to 1, from a 3x3 neighbourhood of the shadow
    map.
    """
    size = shadow_depth.shape[0]
    px, py, pz = (
        point[0] + 0.02 * normal[0] - centre[0],
        point[1] + 0.02 * normal[1] - centre[1],
        point[2] + 0.02 * normal[2] - centre[2],
    )
    x = (basis[0, 0] * px + basis[0, 1] * py + basis[0, 2] * pz) * scale + size / 2
    y = size / 2 - (basis[1, 0] * px + basis[1, 1] * py + basis[1, 2] * pz) * scale
    depth = -(basis[2, 0] * px + basis[2, 1] * py + basis[2, 2] * pz) - 0.03
    lit = 0.0
    for dx in (-2.5, 0.0, 2.5):
        for dy in (-2.5, 0.0, 2.5):
            u = min(max(int(x + dx), 0), size - 1)
            v = min(max(int(y + dy), 0), size - 1)
            if depth < shadow_depth[v, u]:
                lit += 1.0 / 9.0
    return lit


@jit
def _diffuse(normal, lights, strengths, soft, lit, open_sky):
    """Light of one colour channel from key, fill and rim; soft: how far it wraps round the
    terminator.
    """
    total = 0.0
    for k in range(3):
        cosine = normal[0] * lights[k, 0] + normal[1] * lights[k, 1] + normal[2] * lights[k, 2]
        reach = lit if k == 0 else (open_sky if k == 1 else 0.35 * open_sky)
        total += max((cosine + soft) / (1 + soft) ** 2, 0.0) * strengths[k] * reach
    return total


@jit
def shade(
    index,
    bary,
    triangles,
    vertex,
    normal,
    way,
    colour,
    rough,
    material,
    occlusion,
    shadow_depth,
    basis,
    centre,
    scale,
    lights,
    light_colour,
    eye_at,
    lid_height,
    irradiance,
    albedo,
    added,
    kind,
):
    """Light of every covered pixel: irradiance, albedo and added highlight [H, W, 3], and material
    `kind` [H, W].

    lights float32 [3, 3]: unit directions of key, fill, rim; light_colour [3, 3].
    """
    work = np.zeros((5, 3), np.float32)
    n, p, c, w, e = work[0], work[1], work[2], work[3], work[4]
    for v in range(index.shape[0]):
        for u in range(index.shape[1]):
            t = index[v, u]
            if t < 0:
                continue
            r, m = np.float32(0), material[triangles[t, 0]]
            work[:] = 0
            for k in range(3):
                i = triangles[t, k]
                share = bary[v, u, k - 1] if k else 1 - bary[v, u, 0] - bary[v, u, 1]
                r += share * rough[i]
                for d in range(3):
                    n[d] += share * normal[i, d]
                    p[d] += share * vertex[i, d]
                    c[d] += share * colour[i, d]
                    w[d] += share * way[i, d]
            n /= math.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2) + 1e-9
            for d in range(3):
                e[d] = eye_at[d] - p[d]
            e /= math.sqrt(e[0] ** 2 + e[1] ** 2 + e[2] ** 2)
            ao, lit = occlusion[v, u], _lit(shadow_depth, p, n, basis, centre, scale)
            kind[v, u] = m
            if m == HAIR:
                d0, s0 = _strand(w, n, e, lights[0], 60.0)
                d1, s1 = _strand(w, n, e, lights[1], 60.0)
                for d in range(3):
                    irradiance[v, u, d] = (
                        0.8 * d0 * lit * light_colour[0, d]
                        + 0.6 * d1 * light_colour[1, d]
                        + 0.28 * ao
                    )
                    added[v, u, d] = (0.10 - 0.015 * d) * s0 * lit * light_colour[
                        0, d
                    ] + 0.04 * s1 * light_colour[1, d]
                    albedo[v, u, d] = c[d]
                continue
            f0 = np.float32(0.02 if m == CLOTH else 0.035)
            r = min(max(r, 0.05), 1.0)
            s0, s1 = _specular(n, e, lights[0], r, f0) * lit, _specular(n, e, lights[1], r, f0) * ao
            s2 = _specular(n, e, lights[2], r, f0) * ao
            dim, shine = 1.0, 1.0
            if m == TEETH or m == TONGUE:
                dim, shine = 0.75 * ao, 0.2 * ao
                if m == TEETH:  # from behind, the strip of teeth is not to be seen
                    dim *= min(max(1.5 * (n[0] * e[0] + n[1] * e[1] + n[2] * e[2]), 0.0), 1.0)
            elif m == EYE:
                dim = shine = math.sqrt(
                    0.45 + 0.55 * min(max(1 - (p[1] - lid_height) / 0.12, 0.0), 1.0)
                )
            for d in range(3):
                ambient = (0.30, 0.315, 0.345)[d] * (0.62 + 0.38 * n[1]) * ao
                soft = WRAP[d] if m == SKIN else 0.0
                irradiance[v, u, d] = ambient + _diffuse(
                    n, lights, light_colour[:, d], soft, lit, ao
                )
                albedo[v, u, d] = 0.75 * c[d] * dim
                added[v, u, d] = (
                    s0 * light_colour[0, d] + s1 * light_colour[1, d] + s2 * light_colour[2, d]
                ) * shine
