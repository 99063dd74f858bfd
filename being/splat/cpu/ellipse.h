// The ellipse of a projected Gaussian, and the tiles and rows of a tile that it meets.
// The bounds follow from alpha >= 1/255 and are exact, slightly widened.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "scene.h"

// exp(-d^T covariance^-1 d / 2) is written as 2^-(u^2 + v^2) with u = a (dx - lean dy), v = b dy.
// This is a sum of squares, so thin Gaussians lose no digits. HALF_LOG2E is the factor from the
// power of e to the power of 2.
constexpr float HALF_LOG2E = 0.72134752f, ROOT_HALF_LOG2E = 0.84932180f;

// A projected Gaussian as the blending loops read it: one cache line.
struct alignas(64) Splat {
    float x, y, a, lean, b, opacity, colour[3], depth;
};

// The ellipse in which alpha reaches 1/255, {u^2 + v^2 <= level}, described along both axes; and
// the tiles that the square of the radius meets.
struct alignas(64) Ellipse {
    // For a position `s` on one axis: the interval of the other coordinate inside the ellipse.
    struct Axis {
        float half;         // |s| <= half
        float extreme;      // s where the other coordinate is largest
        float lean;         // the middle of the interval at s is lean * s
        float width, fall;  // its half length is width * sqrt(level - fall * s^2)
    };
    float x, y, level;
    Axis rows, columns;                 // s = y - centre; s = x - centre
    uint16_t left, top, right, bottom;  // tiles; the last two are past the end
};

// Computes the extent [low, high] on the other axis for s in [from, to], all relative to the
// centre; returns false if it is empty. Never inlined: tiles are counted and listed in different
// functions, and both must round in the same way.
static __attribute__((noinline)) bool extent(const Ellipse::Axis& axis, float level, float from,
                                             float to, float& low, float& high) {
    from = std::max(from, -axis.half);
    to = std::min(to, axis.half);
    if (!(from <= to)) return false;
    float s = std::min(std::max(axis.extreme, from), to);
    float slack = 0.01f + 2e-6f * std::fabs(axis.lean * s);
    high =
        axis.lean * s + axis.width * std::sqrt(std::max(0.0f, level - axis.fall * s * s)) + slack;
    s = std::min(std::max(-axis.extreme, from), to);
    low = axis.lean * s - axis.width * std::sqrt(std::max(0.0f, level - axis.fall * s * s)) - slack;
    return true;
}

// Calls visit(tile_x, tile_y) for every tile of the rectangle that the ellipse meets, row by row.
template <class Visit>
inline void for_each_tile(const Ellipse& e, Visit&& visit) {
    if (e.right - e.left == 1 && e.bottom - e.top == 1) {
        visit(e.left, e.top);
        return;
    }
    for (int tile_y = e.top; tile_y < e.bottom; tile_y++) {
        // The widest extent of the ellipse in this row of tiles.
        float low, high, from = float(tile_y * TILE) - e.y;
        if (!extent(e.rows, e.level, from - 0.01f, from + (TILE - 0.99f), low, high)) continue;

        float first = std::max(std::ceil(e.x + low), float(e.left * TILE));
        float last = std::min(std::floor(e.x + high), float(e.right * TILE - 1));
        if (!(first <= last)) continue;
        for (int tile_x = int(first) / TILE; tile_x <= int(last) / TILE; tile_x++)
            visit(tile_x, tile_y);
    }
}

// Computes the rows [first, last] of a tile that the ellipse meets within the tile's columns;
// first > last if there are none.
inline void tile_rows(const Ellipse& e, int tile_x, int tile_y, int height, uint8_t& first,
                      uint8_t& last) {
    float low, high, from = float(tile_x * TILE) - e.x;
    first = 1, last = 0;
    if (!extent(e.columns, e.level, from - 0.01f, from + (TILE - 0.99f), low, high)) return;
    float top = float(tile_y * TILE), end = float(std::min(TILE, height - tile_y * TILE) - 1);
    float f = std::max(std::ceil(e.y + low - top), 0.0f),
          l = std::min(std::floor(e.y + high - top), end);
    if (f <= l) first = uint8_t(f), last = uint8_t(l);
}
