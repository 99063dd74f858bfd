// Blending of one 16x16 tile: its Gaussians front to back, and the gradients in the same order.
#pragma once

#include "ellipse.h"
#include "scene.h"
#include "simd.h"

// One Gaussian in one tile.
struct Pair {
    uint32_t id;          // of the Gaussian in its frame
    uint32_t slot;        // index of its gradient: slots of one Gaussian are neighbours
    uint8_t first, last;  // rows of the tile that it can change
};

// The gradient of a pair: sums over the pixels of a tile of g, g u, g v, g u^2, g u v, g v^2 with
// g = alpha dL/dalpha, and of dL/d(colour, depth).
struct PairGradient {
    float g, u, v, uu, uv, vv, colour[3], depth;
};

typedef float Plane[TILE][TILE];
alignas(64) constexpr float ROW[TILE] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr int PREFETCH = 6;  // pairs ahead
// Pairs between checks which rows still have unfinished pixels.
constexpr int CHECK_INTERVAL = 16;

// The whitened coordinates of a tile: u along its first row, and v^2 of each row. u grows by `step`
// from one row to the next.
struct Whitened {
    vfloat u[TILE / LANES];
    float step, v, v_step;
    alignas(64) float v_squared[TILE];

    INLINE Whitened(const Splat& s, int left, int top) {
        float dy = float(top) - s.y;
        step = -s.a * s.lean;
        v_step = s.b;
        v = s.b * dy;
        float u0 = s.a * ((float(left) - s.x) - s.lean * dy);
        for (int i = 0; i < TILE / LANES; i++) {
            const vfloat index = load(ROW + i * LANES);
            u[i] = u0 + s.a * index;
            vfloat vs = v + v_step * index;
            store(v_squared + i * LANES, vs * vs);
        }
    }

    // opacity * 2^-(u^2 + v^2), not yet limited to ALPHA_MAX.
    INLINE vfloat alpha(int segment, int row, float opacity) const {
        vfloat at = u[segment] + step * ROW[row];
        vfloat power = vmin(at * at + v_squared[row], broadcast(120.0f));
        return opacity * exp2_negative(power);
    }
};

// The transmittance of a finished pixel, with a minus sign: so it fails every later test.
INLINE vfloat mark_finished(vfloat transmittance) {
    vint sign = (vint)broadcast(-0.0f);
    return (vfloat)((vint)transmittance | sign);
}

// Sets the transmittance: 1 for the pixels inside the image, -1 outside.
inline void init_transmittance(Plane& transmittance, int width, int height) {
    for (int y = 0; y < TILE; y++) {
        for (int x = 0; x < TILE; x++) transmittance[y][x] = x < width && y < height ? 1.0f : -1.0f;
    }
}

// Narrows [first, last] to the rows that have an unfinished pixel; returns false if none has.
inline bool unfinished_rows(const Plane& transmittance, int& first, int& last) {
    auto live = [&](int row) {
        vmask m = less(vfloat{}, load(transmittance[row]));
        for (int i = 1; i < TILE / LANES; i++)
            m = m | less(vfloat{}, load(transmittance[row] + i * LANES));
        return any(m);
    };
    while (first <= last && !live(first)) first++;
    while (first <= last && !live(last)) last--;
    return first <= last;
}

// Copies a row of a tile, or the part of it that is inside the image.
INLINE void copy_row(const float* from, int width, float* to) {
    if (width == TILE) {
        for (int x = 0; x < TILE; x += LANES) store(to + x, load(from + x));
    } else {
        std::copy(from, from + width, to);
    }
}

// Renders one tile. `planes` are the images: red, green, blue, depth, alpha.
inline void blend_tile(const Scene& scene, const Splat* splats, const Pair* pairs, int64_t count,
                       int tile_x, int tile_y, float* const (&planes)[5]) {
    const int left = tile_x * TILE, top = tile_y * TILE;
    const int width = std::min<int64_t>(TILE, scene.width - left),
              height = std::min<int64_t>(TILE, scene.height - top);
    alignas(64) Plane transmittance, blended[4] = {};  // red, green, blue, depth
    init_transmittance(transmittance, width, height);

    int live_first = 0, live_last = height - 1;
    for (int64_t p = 0; p < count; p++) {
        if (p % CHECK_INTERVAL == CHECK_INTERVAL - 1 &&
            !unfinished_rows(transmittance, live_first, live_last))
            break;
        if (p + PREFETCH < count) __builtin_prefetch(&splats[pairs[p + PREFETCH].id]);
        const Splat& s = splats[pairs[p].id];
        const Whitened white(s, left, top);

        const int last = std::min<int>(pairs[p].last, live_last);
        for (int row = std::max<int>(pairs[p].first, live_first); row <= last; row++) {
            for (int i = 0; i < TILE / LANES; i++) {
                const int x = i * LANES;
                vfloat alpha = vmin(white.alpha(i, row, s.opacity), broadcast(ALPHA_MAX));
                vfloat t = load(transmittance[row] + x);
                vfloat weight = t * alpha, after = t - weight;
                vmask counts = at_least(alpha, broadcast(ALPHA_MIN)),
                      goes_on = at_least(after, broadcast(TRANSMITTANCE_MIN));
                weight = zero_unless(both(counts, goes_on), weight);
                store(transmittance[row] + x,
                      select(counts, select(goes_on, after, mark_finished(t)), t));
                for (int c = 0; c < 3; c++) {
                    store(blended[c][row] + x, load(blended[c][row] + x) + s.colour[c] * weight);
                }
                store(blended[3][row] + x, load(blended[3][row] + x) + s.depth * weight);
            }
        }
    }

    for (int y = 0; y < height; y++) {
        const int64_t at = (top + y) * scene.width + left;
        for (int c = 0; c < 4; c++) copy_row(blended[c][y], width, planes[c] + at);
        for (int x = 0; x < width; x++) planes[4][at + x] = 1.0f - std::fabs(transmittance[y][x]);
    }
}

// Writes a PairGradient for every pair. `planes` are the images, `upstream` their gradients: red,
// green, blue, depth, alpha.
inline void blend_tile_backward(const Scene& scene, const Splat* splats, const Pair* pairs,
                                int64_t count, int tile_x, int tile_y,
                                const float* const (&planes)[5], const float* const (&upstream)[5],
                                PairGradient* gradients) {
    const int left = tile_x * TILE, top = tile_y * TILE;
    const int width = std::min<int64_t>(TILE, scene.width - left),
              height = std::min<int64_t>(TILE, scene.height - top);
    alignas(64) Plane transmittance, d_planes[5] = {};
    init_transmittance(transmittance, width, height);

    // The gradient-weighted sum of what lies behind the current Gaussian: at first, of everything.
    alignas(64) Plane behind = {};
    for (int y = 0; y < height; y++) {
        const int64_t at = (top + y) * scene.width + left;
        for (int c = 0; c < 5; c++) {
            alignas(64) float image[TILE] = {};
            copy_row(upstream[c] + at, width, d_planes[c][y]);
            copy_row(planes[c] + at, width, image);
            for (int x = 0; x < TILE; x += LANES) {
                store(behind[y] + x,
                      load(behind[y] + x) + load(d_planes[c][y] + x) * load(image + x));
            }
        }
    }

    int live_first = 0, live_last = height - 1;
    int64_t p = 0;
    for (; p < count; p++) {
        if (p % CHECK_INTERVAL == CHECK_INTERVAL - 1 &&
            !unfinished_rows(transmittance, live_first, live_last))
            break;
        if (p + PREFETCH < count) __builtin_prefetch(&splats[pairs[p + PREFETCH].id]);
        const Splat& s = splats[pairs[p].id];
        const Whitened white(s, left, top);
        const int first = std::max<int>(pairs[p].first, live_first),
                  last = std::min<int>(pairs[p].last, live_last);

        // Sums over the tile, column by column.
        vfloat g0 = {}, g1 = {}, g2 = {}, u0 = {}, u1 = {}, uu = {}, colour[3] = {}, depth = {};
        for (int i = 0; i < TILE / LANES; i++) {
            const int x = i * LANES;
            vfloat s0 = {}, s1 = {}, s2 = {};  // sums of g, g row, g row^2 down each column
            for (int row = first; row <= last; row++) {
                // The forward pass again.
                vfloat unlimited = white.alpha(i, row, s.opacity);
                vfloat alpha = vmin(unlimited, broadcast(ALPHA_MAX));
                vfloat t = load(transmittance[row] + x), rest = load(behind[row] + x);
                vfloat weight = t * alpha, after = t - weight;
                vmask counts = at_least(alpha, broadcast(ALPHA_MIN)),
                      goes_on = at_least(after, broadcast(TRANSMITTANCE_MIN));
                vmask blends = both(counts, goes_on);
                weight = zero_unless(blends, weight);
                store(transmittance[row] + x,
                      select(counts, zero_unless(goes_on, after), t));  // 0 fails later tests

                // g = alpha dL/dalpha. There is none where alpha is limited to ALPHA_MAX.
                vfloat red = load(d_planes[0][row] + x), green = load(d_planes[1][row] + x),
                       blue = load(d_planes[2][row] + x);
                vfloat far = load(d_planes[3][row] + x);
                vfloat value = load(d_planes[4][row] + x) + s.colour[0] * red +
                               s.colour[1] * green + s.colour[2] * blue + s.depth * far;
                rest -= weight * value;
                store(behind[row] + x, rest);
                vfloat g = alpha * (t * value - rest * reciprocal(1.0f - alpha));
                g = zero_unless(both(blends, at_least(broadcast(ALPHA_MAX), unlimited)), g);

                vfloat g_row = g * ROW[row];
                s0 += g;
                s1 += g_row;
                s2 += g_row * ROW[row];
                colour[0] += weight * red;
                colour[1] += weight * green;
                colour[2] += weight * blue;
                depth += weight * far;
            }
            g0 += s0;
            g1 += s1;
            g2 += s2;
            u0 += white.u[i] * s0;
            u1 += white.u[i] * s1;
            uu += white.u[i] * white.u[i] * s0;
        }

        // u and v are linear in the row, so the sums over u and v follow from those over the rows.
        const float k = white.step, v = white.v, l = white.v_step;
        const float sum0 = sum(g0), sum1 = sum(g1), sum2 = sum(g2), sum_u0 = sum(u0),
                    sum_u1 = sum(u1);
        PairGradient& out = gradients[pairs[p].slot];
        out.g = sum0;
        out.u = sum_u0 + k * sum1;
        out.v = v * sum0 + l * sum1;
        out.uu = sum(uu) + 2 * k * sum_u1 + k * k * sum2;
        out.uv = v * sum_u0 + l * sum_u1 + k * (v * sum1 + l * sum2);
        out.vv = v * v * sum0 + 2 * v * l * sum1 + l * l * sum2;
        for (int c = 0; c < 3; c++) out.colour[c] = sum(colour[c]);
        out.depth = sum(depth);
    }

    // Pairs behind the last unfinished pixel have no gradient.
    for (; p < count; p++) gradients[pairs[p].slot] = PairGradient{};
}
