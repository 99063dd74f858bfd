// Deformation by linear bases: raw Gaussian = base + sum over k of coefficient k times basis k.
//
// The bases are read once a frame and used once, so the time is that of reading them: they are kept
// in bfloat16 by default. Everything else of a frame is as with the network. See
// being/model/bases.py.
#pragma once

#include "deform.h"

// Two bases of one Gaussian in bfloat16, the first in the low half.
struct PairedBases {
    typedef uint32_t Item;
    static constexpr int DEPTH = 2;

    static void set(Item& item, int which, float value) {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // round to nearest, ties to even
        item |= bits << (16 * which);
    }
    // Adds the products of LANES Gaussians with DEPTH coefficients.
    static INLINE void add(vfloat& sum, const Item* basis, const float* coefficients) {
        vint both;
        std::memcpy(&both, basis, sizeof both);
        sum += coefficients[0] * (vfloat)(both << 16);
        sum += coefficients[1] * (vfloat)(both & int32_t(0xffff0000));
    }
};

struct FloatBases {
    typedef float Item;
    static constexpr int DEPTH = 1;

    static void set(Item& item, int, float value) { item = value; }
    static INLINE void add(vfloat& sum, const Item* basis, const float* coefficients) {
        sum += coefficients[0] * load(basis);
    }
};

// The bases of all Gaussians, block by block: [columns][steps][BLOCK]. A step is DEPTH bases.
template <class Format>
struct BasisBlocks {
    typedef typename Format::Item Item;
    // The rows that are deformed, without the harmonics, and the constant harmonic of each colour.
    static constexpr int COLUMNS = CanonicalBlocks::DEFORMED_ROWS + 3;
    int steps = 0;
    std::vector<Item> values;

    const Item* block(int64_t number) const {
        return values.data() + number * COLUMNS * steps * BLOCK;
    }

    // basis: [bases][count][COLUMNS]; past the end, the last Gaussian is repeated.
    void fill(const float* basis, int bases, const CanonicalBlocks& canonical) {
        steps = (bases + Format::DEPTH - 1) / Format::DEPTH;
        values.assign(size_t(canonical.blocks()) * COLUMNS * steps * BLOCK, Item(0));
        for (int64_t i = 0; i < canonical.blocks() * BLOCK; i++) {
            const int64_t from = std::min(i, canonical.count - 1) * COLUMNS;
            Item* to = values.data() + i / BLOCK * COLUMNS * steps * BLOCK + i % BLOCK;
            for (int column = 0; column < COLUMNS; column++) {
                for (int k = 0; k < bases; k++) {
                    Item& item = to[(column * steps + k / Format::DEPTH) * BLOCK];
                    Format::set(item, k % Format::DEPTH,
                                basis[k * canonical.count * COLUMNS + from + column]);
                }
            }
        }
    }
};

// Computes blocks of one frame of one head by bases.
template <class Format>
struct BasesRenderer : BlockScreen {
    const BasisBlocks<Format>& bases;
    const float* coefficients;  // [steps * DEPTH]

    // See `BlockRenderer::deform_and_project`.
    int deform_and_project(int64_t number, ScreenGaussians& out, SortItem* sort_items,
                           PartTimes& parts) const {
        alignas(64) float deformed[12][BLOCK], basis[16][BLOCK], colour[3][BLOCK];
        bool visible[BLOCK];
        Stopwatch stopwatch;
        deform(number, deformed);
        stopwatch.lap(parts.geometry_heads);
        const int visible_count = project(number, deformed, basis, visible, out);
        stopwatch.lap(parts.projection);
        if (!visible_count) return 0;
        compute_colours(number, basis, colour);
        stopwatch.lap(parts.colour_head);
        return append_drawn(number, colour, visible, out, sort_items);
    }

    // See `BlockRenderer::deform_key_frame`.
    void deform_key_frame(int64_t number, float* kept, PartTimes& parts) const {
        alignas(64) float deformed[12][BLOCK], basis[16][BLOCK], colour[3][BLOCK];
        Stopwatch stopwatch;
        deform(number, deformed);
        evaluate_sh(deformed, basis);
        compute_colours(number, basis, colour);
        keep(deformed, colour, kept);
        stopwatch.lap(parts.geometry_heads);
    }

    void deform(int64_t number, float (&deformed)[12][BLOCK]) const {
        const float* raw = canonical.block(number);
        for (int row = 0; row < CanonicalBlocks::DEFORMED_ROWS; row++) {
            vfloat sums[VECTORS];
            for (int v = 0; v < VECTORS; v++) sums[v] = load(raw + row * BLOCK + v * LANES);
            add_bases(number, row, sums);
            for (int v = 0; v < VECTORS; v++) store(deformed[row] + v * LANES, sums[v]);
        }
    }

    // The colours at the view directions: harmonics of all frames, and bases of the constant one.
    void compute_colours(int64_t number, const float (&basis)[16][BLOCK],
                         float (&colour)[3][BLOCK]) const {
        const float* raw = canonical.block(number) + CanonicalBlocks::HARMONIC * BLOCK;
        const int row = padded(canonical.coefficients);
        for (int c = 0; c < 3; c++) {
            vfloat constant[VECTORS] = {};
            add_bases(number, CanonicalBlocks::DEFORMED_ROWS + c, constant);
            for (int v = 0; v < VECTORS; v++) {
                vfloat sum = 0.5f + SH_C0 * constant[v];
                for (int k = 0; k < canonical.coefficients; k++)
                    sum +=
                        load(raw + (c * row + k) * BLOCK + v * LANES) * load(basis[k] + v * LANES);
                store(colour[c] + v * LANES, sum);
            }
        }
    }

    // Adds all bases of one column, times their coefficients, to `sums`.
    INLINE void add_bases(int64_t number, int column, vfloat (&sums)[VECTORS]) const {
        const auto* from = bases.block(number) + int64_t(column) * bases.steps * BLOCK;
        for (int step = 0; step < bases.steps; step++, from += BLOCK) {
            for (int v = 0; v < VECTORS; v++)
                Format::add(sums[v], from + v * LANES, coefficients + step * Format::DEPTH);
        }
    }
};
