// Dense layers over a block of Gaussians, in three number formats.
//
// Each vector lane is one Gaussian, and a weight is broadcast to all lanes. The formats are
// float32, pairs of bfloat16, and pairs of bfloat16 in the tile unit (AMX), which reads the same
// rows.
#pragma once

#if defined(__AMX_BF16__)
#    include <sys/syscall.h>
#    include <unistd.h>
#endif

#include <cstring>
#include <type_traits>
#include <vector>

#include "../../../splat/cpu/scene.h"
#include "../../../splat/cpu/simd.h"

constexpr int VECTORS = 3;  // vectors of Gaussians that one loaded weight is multiplied with
// Gaussians that pass through all layers together; their rows stay in the first-level cache.
constexpr int BLOCK = VECTORS * LANES;
constexpr int GROUP = 4;  // the rows of a block are padded with zeros to a multiple of this

constexpr int rounded(int width, int to) {
    return (width + to - 1) / to * to;
}
constexpr int padded(int width) {
    return rounded(width, GROUP);
}

// 2^x for any x. x is limited to the range of the exponent; NaN becomes its upper end.
INLINE vfloat exp2_any(vfloat x) {
    return exp2_negative(-vmax(vmin(x, broadcast(126.0f)), broadcast(-126.0f)));
}

// The order of weights that are broadcast. PANEL outputs are summed at once, because the registers
// hold PANEL * VECTORS sums; the outputs left over are summed SMALL_PANEL at once.
struct BroadcastLayout {
    static constexpr int PANEL = LANES == 16 ? 8 : 4, SMALL_PANEL = GROUP, INPUT_MULTIPLE = GROUP;

    // The index in its panel of the weight of a step and an output.
    static size_t weight_index(int step, int output, int panel) {
        return size_t(step) * panel + output;
    }
    struct ThreadState {};  // lives on a thread as long as it multiplies
};

// A number format of inputs and weights. `Item` holds DEPTH inputs of one Gaussian, or DEPTH
// weights of one output.
struct Float32 : BroadcastLayout {
    typedef float Item;
    static constexpr int DEPTH = 1;

    static void set_weight(Item& item, int, float weight) { item = weight; }
    static INLINE void add_product(vfloat& sum, const Item* x, const Item& weight) {
        sum += load(x) * weight;
    }
    // Writes inputs `row` and `row + 1` of one vector of Gaussians.
    static INLINE void store_inputs(Item* block, int row, int vector, vfloat even, vfloat odd) {
        store(block + row * BLOCK + vector * LANES, even);
        store(block + (row + 1) * BLOCK + vector * LANES, odd);
    }
};

#if defined(__AVX512BF16__)
#    define HAS_BFLOAT16 1
struct Bfloat16 : BroadcastLayout {
    typedef uint32_t Item;
    static constexpr int DEPTH = 2;

    static void set_weight(Item& item, int which, float weight) {
        uint32_t bits;
        std::memcpy(&bits, &weight, 4);
        bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // round to nearest, ties to even
        item |= bits << (16 * which);
    }
    static INLINE void add_product(vfloat& sum, const Item* x, const Item& weight) {
        sum = (vfloat)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(x),
                                       (__m512bh)_mm512_set1_epi32(int(weight)));
    }
    static INLINE void store_inputs(Item* block, int row, int vector, vfloat even, vfloat odd) {
        const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
        const __m512i from =
            _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                             22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        _mm512_storeu_si512(block + row / 2 * BLOCK + vector * LANES,
                            _mm512_permutexvar_epi16(from, halves));
    }
};
#else
#    define HAS_BFLOAT16 0
#endif

#if defined(__AMX_BF16__)
#    define HAS_TILES 1
// Products in tiles of 16 outputs by 16 Gaussians, 32 inputs at a time. Tiles 0 to 2 hold the sums
// of the vectors of a block, tile 3 the weights and tile 4 the inputs.
struct Tiled : Bfloat16 {
    static constexpr int PANEL = 16, SMALL_PANEL = 16, INPUT_MULTIPLE = 32,
                         STEPS = 16;  // steps of a tile: pairs of inputs
    static_assert(LANES == 16 && VECTORS == 3, "a vector of Gaussians is a tile's columns");

    static size_t weight_index(int step, int output, int) {
        return size_t(step / STEPS * PANEL + output) * STEPS + step % STEPS;
    }
    // Whether `width` fills whole tiles and the system lets this process use the tile registers.
    static bool usable(int width) {
        static const bool granted =
            syscall(SYS_arch_prctl, 0x1023, 18) == 0;  // ARCH_REQ_XCOMP_PERM, tile data
        return granted && width % INPUT_MULTIPLE == 0;
    }

    // Sets the shape of the tiles for the thread, as long as this object lives.
    struct ThreadState {
        ThreadState() {
            struct alignas(64) {
                uint8_t palette = 1, start = 0, unused[14] = {};
                uint16_t bytes[16] = {64, 64, 64, 64, 64};
                uint8_t rows[16] = {16, 16, 16, 16, 16};
            } shape;
            static_assert(sizeof shape == 64, "as the instruction reads it");
            _tile_loadconfig(&shape);
        }
        ~ThreadState() { _tile_release(); }
    };
};
#else
#    define HAS_TILES 0
#endif

// The weights of one layer, panel by panel: [steps][outputs of the panel]. A step is DEPTH inputs.
template <class Format>
struct Dense {
    typedef typename Format::Item Item;
    int in = 0, out = 0;  // padded
    std::vector<Item> weights;
    std::vector<float> bias;

    int steps() const { return in / Format::DEPTH; }
    void resize(int inputs, int outputs) {
        in = rounded(inputs, Format::INPUT_MULTIPLE), out = rounded(outputs, Format::SMALL_PANEL);
        weights.assign(size_t(steps()) * out, Item(0));
        bias.assign(out, 0.0f);
    }
    void set(int input, int output, float weight) {
        const int large = out / Format::PANEL * Format::PANEL;
        const int size = output < large ? Format::PANEL : Format::SMALL_PANEL;
        const int first =
            output < large ? output / size * size : large + (output - large) / size * size;
        const size_t at = size_t(first) * steps() +
                          Format::weight_index(input / Format::DEPTH, output - first, size);
        Format::set_weight(weights[at], input % Format::DEPTH, weight);
    }
    // Fills the layer from a matrix [outputs, inputs], as torch stores it.
    void fill(const float* matrix, const float* offsets, int inputs, int outputs) {
        resize(inputs, outputs);
        for (int o = 0; o < outputs; o++) {
            bias[o] = offsets[o];
            for (int i = 0; i < inputs; i++) set(i, o, matrix[size_t(o) * inputs + i]);
        }
    }
};

// Adds the products of inputs x [steps][BLOCK] to the sums of outputs [first, first + SIZE).
template <int SIZE, class Format>
INLINE void multiply(const Dense<Format>& layer, int first, const typename Format::Item* x,
                     vfloat (&sums)[SIZE][VECTORS]) {
    const auto* weight = layer.weights.data() + size_t(first) * layer.steps();
    for (int step = layer.steps(); step; step--, weight += SIZE, x += BLOCK) {
#pragma GCC unroll 8
        for (int p = 0; p < SIZE; p++) {
#pragma GCC unroll 3
            for (int v = 0; v < VECTORS; v++)
                Format::add_product(sums[p][v], x + v * LANES, weight[p]);
        }
    }
}

#if HAS_TILES
template <int SIZE>
INLINE void multiply(const Dense<Tiled>& layer, int first, const uint32_t* x,
                     vfloat (&sums)[SIZE][VECTORS]) {
    const uint32_t* weight = layer.weights.data() + size_t(first) * layer.steps();
    constexpr long ROW = sizeof sums[0];
    // The compiler does not know that tiles are loaded from memory.
    asm volatile("" ::: "memory");
    _tile_loadd(0, &sums[0][0], ROW);
    _tile_loadd(1, &sums[0][1], ROW);
    _tile_loadd(2, &sums[0][2], ROW);
    for (int step = 0; step < layer.steps(); step += Tiled::STEPS) {
        _tile_loadd(3, weight + size_t(step) * SIZE, 64);
        _tile_loadd(4, x + step * BLOCK, 4 * BLOCK);
        _tile_dpbf16ps(0, 3, 4);
        _tile_loadd(4, x + step * BLOCK + LANES, 4 * BLOCK);
        _tile_dpbf16ps(1, 3, 4);
        _tile_loadd(4, x + step * BLOCK + 2 * LANES, 4 * BLOCK);
        _tile_dpbf16ps(2, 3, 4);
    }
    _tile_stored(0, &sums[0][0], ROW);
    _tile_stored(1, &sums[0][1], ROW);
    _tile_stored(2, &sums[0][2], ROW);
    asm volatile("" ::: "memory");
}
#endif

// Calls visit(first output, size) for each panel; `size` is a compile-time constant of its type.
template <class Format, class Visit>
INLINE void for_each_panel(const Dense<Format>& layer, Visit&& visit) {
    int first = 0;
    for (; first + Format::PANEL <= layer.out; first += Format::PANEL) {
        visit(first, std::integral_constant<int, Format::PANEL>());
    }
    if constexpr (Format::PANEL > Format::SMALL_PANEL) {
        if (first < layer.out) visit(first, std::integral_constant<int, Format::SMALL_PANEL>());
    }
}

// Computes all outputs of inputs x [steps][BLOCK], bias included. Calls
// sink(output, vector, value, value of the next output) for every second output.
template <class Format, class Sink>
INLINE void apply(const Dense<Format>& layer, const typename Format::Item* x, Sink&& sink) {
    for_each_panel(layer, [&](int first, auto size) __attribute__((always_inline)) {
        vfloat sums[size()][VECTORS];
        for (int p = 0; p < size(); p++) {
            for (int v = 0; v < VECTORS; v++) sums[p][v] = broadcast(layer.bias[first + p]);
        }
        multiply<size()>(layer, first, x, sums);
        for (int p = 0; p < size(); p += 2) {
            for (int v = 0; v < VECTORS; v++) sink(first + p, v, sums[p][v], sums[p + 1][v]);
        }
    });
}
