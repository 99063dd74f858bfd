// Tile lists of the drawn Gaussians of a frame, and the image of one tile over its plate, in uint8.
#pragma once

#include "../../../splat/cpu/blend.h"
#include "deform.h"

// A Gaussian in a tile. `where` packs its first and last row (4 bits each) and the tile (24 bits).
struct TileEntry {
    uint32_t id, where;

    int tile() const { return int(where & 0xffffff); }
    int first() const { return int(where >> 24 & 15); }
    int last() const { return int(where >> 28); }
};
static_assert(TILE == 16, "rows of a tile take 4 bits");

// The entries of one part of the depth order, for all tiles.
struct PartEntries {
    std::vector<TileEntry> entries;  // the first `size` are filled
    size_t size = 0;
};

// Calls visit(tile_x, tile_y, first row, last row) for each tile that the ellipse meets, within the
// square of tiles that the original rasterizer lists.
template <class Visit>
INLINE void for_each_tile(const Ellipse& e, int height, Visit&& visit) {
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
        return column(left, -half_y, half_y);  // at most a few rows more than the ellipse meets
    for (int tile_x = left; tile_x < right; tile_x++) {
        float low, high, from = float(tile_x * TILE) - e.x;
        if (extent(e.columns, e.level, from - 0.01f, from + (TILE - 0.99f), low, high))
            column(tile_x, low, high);
    }
}

// Collects the entries of the Gaussians order[from, to), and counts them by tile: counts [tiles].
inline void collect_entries(const Scene& scene, const Ellipse* ellipses, const SortItem* order,
                            int64_t from, int64_t to, PartEntries& found, uint32_t* counts) {
    const int64_t width = scene.tiles_x();
    std::fill(counts, counts + scene.tiles(), 0u);
    found.size = 0;
    for (int64_t i = from; i < to; i++) {
        if (i + 8 < to) __builtin_prefetch(&ellipses[order[i + 8].id]);
        const uint32_t id = order[i].id;
        const Ellipse& e = ellipses[id];
        const size_t most = size_t(e.right - e.left) * size_t(e.bottom - e.top);
        if (found.size + most > found.entries.size()) found.entries.resize(2 * (found.size + most));
        TileEntry* entries = found.entries.data();
        for_each_tile(e, int(scene.height), [&](int x, int y, int first, int last) {
            const uint32_t tile = uint32_t(y * width + x);
            counts[tile]++;
            entries[found.size++] = {id, tile | uint32_t(first) << 24 | uint32_t(last) << 28};
        });
    }
}

// The alpha of one Gaussian in one segment of a tile, row after row; `next` goes to the next row.
// The logarithm of alpha is a parabola of the row, so it is stepped by differences here.
struct SteppedAlpha {
    vfloat alpha, ratio;
    float decay;

    INLINE SteppedAlpha(const BlendSplat& m, vfloat u, float v) {
        const vfloat power = u * u + v * v;
        alpha = zero_unless(less(power, broadcast(120.0f)),
                            m.opacity * exp2_negative(vmin(power, broadcast(120.0f))));
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

// The same, computed anew in each row.
struct ExactAlpha {
    vfloat u;
    float v, step, v_step, opacity;

    INLINE ExactAlpha(const BlendSplat& m, vfloat u0, float v0)
        : u(u0), v(v0), step(m.step), v_step(m.b), opacity(m.opacity) {}
    INLINE vfloat value() const {
        return opacity * exp2_negative(vmin(u * u + v * v, broadcast(120.0f)));
    }
    INLINE void next() {
        u += step;
        v += v_step;
    }
};

// The largest move of u from the first to the last row for which SteppedAlpha is used. An alpha
// below 2^-120 in the first row then stays below 1/255 in all rows (sqrt(120) - sqrt(8)).
constexpr float MAX_STEPPED_MOVE = 8.0f;

// The transmittance and the colour of a tile while it is blended.
struct TilePlanes {
    alignas(64) Plane transmittance, colour[3];
};

// Blends one Gaussian into the rows first ... last of one segment of a tile.
template <class Rows>
INLINE void blend_rows(Rows rows, const BlendSplat& m, int x, int first, int last,
                       TilePlanes& tile) {
    for (int row = first; row <= last; row++, rows.next()) {
        const vfloat alpha = vmin(rows.value(), broadcast(ALPHA_MAX));
        const vfloat t = load(tile.transmittance[row] + x);
        vfloat weight = t * alpha;
        const vfloat after = t - weight;
        const vmask counts = at_least(alpha, broadcast(ALPHA_MIN));
        const vmask blends = both(counts, at_least(after, broadcast(TRANSMITTANCE_MIN)));
        weight = zero_unless(blends, weight);
        store(tile.transmittance[row] + x,
              select(counts, select(blends, after, mark_finished(t)), t));
        for (int c = 0; c < 3; c++)
            store(tile.colour[c][row] + x, load(tile.colour[c][row] + x) + m.colour[c] * weight);
    }
}

// Composites a tile over the plate: colour + transmittance * plate, rounded to 0 ... 255. Images
// are [height, width, 3].
inline void composite(const TilePlanes& tile, const uint8_t* plate, int64_t stride, int width,
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

// Renders one tile of a frame from its list.
inline void render_tile(const Scene& scene, const BlendSplat* splats, const TileEntry* entries,
                        int64_t count, int tile_x, int tile_y, const uint8_t* plate, uint8_t* out) {
    const int left = tile_x * TILE, top = tile_y * TILE;
    const int width = std::min<int64_t>(TILE, scene.width - left),
              height = std::min<int64_t>(TILE, scene.height - top);
    const int64_t stride = 3 * scene.width, at = top * stride + 3 * left;

    // A tile without Gaussians shows the plate.
    if (!count) {
        for (int y = 0; y < height; y++)
            std::memcpy(out + at + y * stride, plate + at + y * stride, size_t(3 * width));
        return;
    }

    TilePlanes tile;
    init_transmittance(tile.transmittance, width, height);
    std::memset(tile.colour, 0, sizeof tile.colour);

    // The Gaussians from front to back. Only the rows [live_first, live_last] still take light.
    int live_first = 0, live_last = height - 1;
    for (int64_t p = 0; p < count; p++) {
        if (p % CHECK_INTERVAL == CHECK_INTERVAL - 1 &&
            !unfinished_rows(tile.transmittance, live_first, live_last))
            break;
        if (p + PREFETCH < count) __builtin_prefetch(&splats[entries[p + PREFETCH].id]);
        const BlendSplat& m = splats[entries[p].id];
        const int first = std::max(entries[p].first(), live_first),
                  last = std::min(entries[p].last(), live_last);
        if (first > last) continue;

        // The alpha at the first row, then row after row.
        const float dy = float(top + first) - m.y, v = m.b * dy;
        const float u0 = m.a * ((float(left) - m.x) - m.lean * dy);
        const bool stepping =
            last - first > 1 && std::fabs(m.step) * float(last - first) < MAX_STEPPED_MOVE;
        for (int x = 0; x < TILE; x += LANES) {
            const vfloat u = u0 + m.a * load(ROW + x);
            if (stepping) {
                blend_rows(SteppedAlpha(m, u, v), m, x, first, last, tile);
            } else {
                blend_rows(ExactAlpha(m, u, v), m, x, first, last, tile);
            }
        }
    }
    composite(tile, plate + at, stride, width, height, out + at);
}
