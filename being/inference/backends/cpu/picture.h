// Tile lists of a frame's drawn Gaussians, and one tile blended and laid over its plate as uint8.
#pragma once

#include "../../../splat/cpu/blend.h"
#include "deform.h"

// A Gaussian in a tile: rows first and last in 4 bits each, tile in 24.
struct Entry {
    uint32_t id, where;

    int tile() const { return int(where & 0xffffff); }
    int first() const { return int(where >> 24 & 15); }
    int last() const { return int(where >> 28); }
};
static_assert(TILE == 16, "rows of a tile take 4 bits");

// What one part of the depth order puts into the tiles.
struct Found {
    std::vector<Entry> entries;  // room; `size` of them are filled
    size_t size = 0;
};

// Calls visit(tile_x, tile_y, first row, last row) for every tile of the family's square that the
// ellipse meets.
template <class Visit>
INLINE void for_each_meeting(const Ellipse& e, int height, Visit&& visit) {
    auto column = [&](int tile_x, float low, float high) __attribute__((always_inline)) {
        const float top = std::max(std::ceil(e.y + low), float(e.top * TILE));
        const float end =
            std::min(std::floor(e.y + high), float(std::min(e.bottom * TILE, height) - 1));
        if (!(top <= end)) return;
        const int first = int(top), last = int(end);
        for (int tile_y = first / TILE; tile_y <= last / TILE; tile_y++) {
            const int start = tile_y * TILE;
            visit(tile_x, tile_y, std::max(first - start, 0), std::min(last - start, TILE - 1));
        }
    };
    const float half_x = e.columns.half + 0.01f, half_y = e.rows.half * (1 + 2e-6f) + 0.01f;
    const int left = int(std::max(std::floor((e.x - half_x) / TILE), float(e.left)));
    const int right = int(std::min(std::floor((e.x + half_x) / TILE) + 1, float(e.right)));
    if (right - left == 1)
        return column(left, -half_y, half_y);  // at most some rows more than it meets
    for (int tile_x = left; tile_x < right; tile_x++) {
        float low, high, from = float(tile_x * TILE) - e.x;
        if (extent(e.columns, e.level, from - 0.01f, from + (TILE - 0.99f), low, high))
            column(tile_x, low, high);
    }
}

// Finds the tiles of Gaussians order[from, to) and counts them: counts [tiles].
inline void find(const Scene& scene, const Ellipse* ellipses, const Keyed* order, int64_t from,
                 int64_t to, Found& found, uint32_t* counts) {
    const int64_t width = scene.tiles_x();
    std::fill(counts, counts + scene.tiles(), 0u);
    found.size = 0;
    for (int64_t i = from; i < to; i++) {
        if (i + 8 < to) __builtin_prefetch(&ellipses[order[i + 8].id]);
        const uint32_t id = order[i].id;
        const Ellipse& e = ellipses[id];
        const size_t most = size_t(e.right - e.left) * size_t(e.bottom - e.top);
        if (found.size + most > found.entries.size()) found.entries.resize(2 * (found.size + most));
        Entry* entries = found.entries.data();
        for_each_meeting(e, int(scene.height), [&](int x, int y, int first, int last) {
            const uint32_t tile = uint32_t(y * width + x);
            counts[tile]++;
            entries[found.size++] = {id, tile | uint32_t(first) << 24 | uint32_t(last) << 28};
        });
    }
}

// alpha of one Gaussian down the rows of one segment of a tile; `next` goes to the next row.
struct Stepping {  // by differences: the logarithm of alpha is a parabola of the row
    vfloat alpha, ratio;
    float decay;

    INLINE Stepping(const Mark& m, vfloat u, float v) {
        const vfloat power = u * u + v * v;
        alpha = zero_unless(less(power, splat(120.0f)),
                            m.opacity * exp2_negative(vmin(power, splat(120.0f))));
        const float constant = m.step * m.step + m.b * m.b + 2 * v * m.b;
        ratio = exp2_any(-2.0f * m.step * u - constant);
        decay = m.decay;
    }
    INLINE vfloat value() const { return alpha; }
    INLINE void next() {
        alpha *= ratio;
        ratio *= decay;
    }
};

struct Exact {
    vfloat u;
    float v, step, v_step, opacity;

    INLINE Exact(const Mark& m, vfloat u0, float v0)
        : u(u0), v(v0), step(m.step), v_step(m.b), opacity(m.opacity) {}
    INLINE vfloat value() const {
        return opacity * exp2_negative(vmin(u * u + v * v, splat(120.0f)));
    }
    INLINE void next() {
        u += step;
        v += v_step;
    }
};

// How far u may move between the first and the last row for Stepping: what is below 2^-120 in the
// first row then stays below 1/255 in all (sqrt(120) - sqrt(8)).
constexpr float STEPPING_MOVE = 8.0f;

struct TilePlanes {
    alignas(64) Plane transmittance, colour[3];
};

template <class Rows>
INLINE void blend_rows(Rows rows, const Mark& m, int x, int first, int last, TilePlanes& tile) {
    for (int row = first; row <= last; row++, rows.next()) {
        const vfloat alpha = vmin(rows.value(), splat(ALPHA_MAX));
        const vfloat t = load(tile.transmittance[row] + x);
        vfloat weight = t * alpha;
        const vfloat after = t - weight;
        const vmask counts = at_least(alpha, splat(ALPHA_MIN));
        const vmask blends = both(counts, at_least(after, splat(TRANSMITTANCE_MIN)));
        weight = zero_unless(blends, weight);
        store(tile.transmittance[row] + x, select(counts, select(blends, after, finished(t)), t));
        for (int c = 0; c < 3; c++)
            store(tile.colour[c][row] + x, load(tile.colour[c][row] + x) + m.colour[c] * weight);
    }
}

// Lays a tile over the plate: colour + transmittance * plate, rounded to 0 ... 255. Pictures are
// [height, width, 3].
inline void compose(const TilePlanes& tile, const uint8_t* plate, int64_t stride, int width,
                    int height, uint8_t* out) {
    alignas(64) float light[3 * TILE], behind[3 * TILE];
    alignas(64) uint8_t under[3 * TILE] = {}, pixels[3 * TILE];
    for (int y = 0; y < height; y++) {
        std::memcpy(under, plate + y * stride, size_t(3 * width));
        for (int x = 0; x < TILE; x++) {
            for (int c = 0; c < 3; c++) {
                light[3 * x + c] = tile.colour[c][y][x];
                behind[3 * x + c] = std::fabs(tile.transmittance[y][x]);
            }
        }
        for (int i = 0; i < 3 * TILE; i++) {
            const float value = 255.0f * light[i] + behind[i] * float(under[i]) + 0.5f;
            pixels[i] = uint8_t(int(value < 255.0f ? value : 255.0f));
        }
        std::memcpy(out + y * stride, pixels, size_t(3 * width));
    }
}

// One tile of one frame from its list.
inline void draw_tile(const Scene& scene, const Mark* marks, const Entry* entries, int64_t count,
                      int tile_x, int tile_y, const uint8_t* plate, uint8_t* out) {
    const int left = tile_x * TILE, top = tile_y * TILE;
    const int width = std::min<int64_t>(TILE, scene.width - left),
              height = std::min<int64_t>(TILE, scene.height - top);
    const int64_t stride = 3 * scene.width, at = top * stride + 3 * left;
    if (!count) {
        for (int y = 0; y < height; y++)
            std::memcpy(out + at + y * stride, plate + at + y * stride, size_t(3 * width));
        return;
    }
    TilePlanes tile;
    start(tile.transmittance, width, height);
    std::memset(tile.colour, 0, sizeof tile.colour);
    int live_first = 0, live_last = height - 1;
    for (int64_t p = 0; p < count; p++) {
        if (p % LIVE_EVERY == LIVE_EVERY - 1 &&
            !live_rows(tile.transmittance, live_first, live_last))
            break;
        if (p + PREFETCH < count) __builtin_prefetch(&marks[entries[p + PREFETCH].id]);
        const Mark& m = marks[entries[p].id];
        const int first = std::max(entries[p].first(), live_first),
                  last = std::min(entries[p].last(), live_last);
        if (first > last) continue;
        const float dy = float(top + first) - m.y, v = m.b * dy;
        const float u0 = m.a * ((float(left) - m.x) - m.lean * dy);
        const bool stepping =
            last - first > 1 && std::fabs(m.step) * float(last - first) < STEPPING_MOVE;
        for (int x = 0; x < TILE; x += LANES) {
            const vfloat u = u0 + m.a * load(ROW + x);
            if (stepping) {
                blend_rows(Stepping(m, u, v), m, x, first, last, tile);
            } else {
                blend_rows(Exact(m, u, v), m, x, first, last, tile);
            }
        }
    }
    compose(tile, plate + at, stride, width, height, out + at);
}
