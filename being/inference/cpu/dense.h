// Dense layers over a block of Gaussians: one Gaussian a lane, weights broadcast, in float32 or in bfloat16 pairs.
#pragma once

#include <cstring>
#include <type_traits>
#include <vector>

#include "../../splat/cpu/scene.h"
#include "../../splat/cpu/simd.h"

constexpr int VECTORS = 3;                // vectors of Gaussians that one weight serves
constexpr int BLOCK = VECTORS * LANES;    // Gaussians that pass through all layers together, in the first cache
constexpr int PANEL = LANES == 16 ? 8 : 4;  // outputs summed at once: PANEL * VECTORS registers hold the sums
constexpr int LITTLE_PANEL = 4;           // for what PANEL leaves over; widths are padded to it with zeros

inline int padded(int width) { return (width + LITTLE_PANEL - 1) / LITTLE_PANEL * LITTLE_PANEL; }

typedef vfloat Sums[VECTORS];

// 2^x for any x; what is beyond the exponent's range is limited to it, NaN to its upper end.
INLINE vfloat exp2_any(vfloat x) {
    const float magic = 12582912.0f;  // as in exp2_negative
    x = vmax(vmin(x, splat(126.0f)), splat(-126.0f));
    vfloat shifted = x + magic, rest = (shifted - magic) - x;
    vfloat y = -0.0013276468f * rest + 0.009675542f;
    y = y * rest - 0.055507135f;
    y = y * rest + 0.2402212f;
    y = y * rest - 0.69314694f;
    y = y * rest + 1.0000001f;
    return (vfloat)((vint)y + ((vint)shifted << 23));
}

// A number format of inputs and weights. `Item` holds DEPTH inputs of one Gaussian, or DEPTH weights of one output.
struct Float32 {
    typedef float Item;
    static constexpr int DEPTH = 1;

    static void pack(Item& item, int, float weight) { item = weight; }
    static INLINE void add_product(vfloat& sum, const Item* x, const Item& weight) { sum += load(x) * weight; }
    // Writes inputs `row` and `row + 1` of one vector of Gaussians.
    static INLINE void put(Item* block, int row, int vector, vfloat even, vfloat odd) {
        store(block + row * BLOCK + vector * LANES, even);
        store(block + (row + 1) * BLOCK + vector * LANES, odd);
    }
};

#if defined(__AVX512BF16__)
#define HAS_BFLOAT16 1
struct Bfloat16 {
    typedef uint32_t Item;
    static constexpr int DEPTH = 2;

    static void pack(Item& item, int which, float weight) {
        uint32_t bits;
        std::memcpy(&bits, &weight, 4);
        bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // round to nearest, ties to even
        item |= bits << (16 * which);
    }
    static INLINE void add_product(vfloat& sum, const Item* x, const Item& weight) {
        sum = (vfloat)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(x),
                                       (__m512bh)_mm512_set1_epi32(int(weight)));
    }
    static INLINE void put(Item* block, int row, int vector, vfloat even, vfloat odd) {
        const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
        const __m512i from = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                              6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        _mm512_storeu_si512(block + row / 2 * BLOCK + vector * LANES, _mm512_permutexvar_epi16(from, halves));
    }
};
#else
#define HAS_BFLOAT16 0
#endif

// The weights of one layer, panel by panel: [steps][outputs of the panel], a step being DEPTH inputs.
template <class Format>
struct Dense {
    typedef typename Format::Item Item;
    int in = 0, out = 0;  // padded
    std::vector<Item> weights;
    std::vector<float> bias;

    int steps() const { return in / Format::DEPTH; }
    void resize(int inputs, int outputs) {
        in = padded(inputs), out = padded(outputs);
        weights.assign(size_t(steps()) * out, Item(0));
        bias.assign(out, 0.0f);
    }
    void set(int input, int output, float weight) {
        const int large = out / PANEL * PANEL;
        const int panel = output < large ? PANEL : LITTLE_PANEL;
        const int first = output < large ? output / PANEL * PANEL : large + (output - large) / LITTLE_PANEL * LITTLE_PANEL;
        const size_t at = size_t(first) * steps() + size_t(input / Format::DEPTH) * panel + (output - first);
        Format::pack(weights[at], input % Format::DEPTH, weight);
    }
    // From torch's [outputs, inputs].
    void fill(const float* matrix, const float* offsets, int inputs, int outputs) {
        resize(inputs, outputs);
        for (int o = 0; o < outputs; o++) {
            bias[o] = offsets[o];
            for (int i = 0; i < inputs; i++) set(i, o, matrix[size_t(o) * inputs + i]);
        }
    }
};

// Outputs [first, first + SIZE) of inputs x [steps][BLOCK]: `sums` comes with what they start from.
template <int SIZE, class Format>
INLINE void multiply(const Dense<Format>& layer, int first, const typename Format::Item* x, vfloat (&sums)[SIZE][VECTORS]) {
    const auto* weight = layer.weights.data() + size_t(first) * layer.steps();
    for (int step = layer.steps(); step; step--, weight += SIZE, x += BLOCK) {
#pragma GCC unroll 8
        for (int p = 0; p < SIZE; p++) {
#pragma GCC unroll 3
            for (int v = 0; v < VECTORS; v++) Format::add_product(sums[p][v], x + v * LANES, weight[p]);
        }
    }
}

// Calls visit(first output, size) for all panels; the size is a constant of its type.
template <class Format, class Visit>
INLINE void for_each_panel(const Dense<Format>& layer, Visit&& visit) {
    int first = 0;
    for (; first + PANEL <= layer.out; first += PANEL) visit(first, std::integral_constant<int, PANEL>());
    if constexpr (PANEL > LITTLE_PANEL) {
        if (first < layer.out) visit(first, std::integral_constant<int, LITTLE_PANEL>());
    }
}

// Calls sink(output, vector, value, value of the next output) for all outputs of inputs x [steps][BLOCK], bias included.
template <class Format, class Sink>
INLINE void apply(const Dense<Format>& layer, const typename Format::Item* x, Sink&& sink) {
    for_each_panel(layer, [&](int first, auto size) __attribute__((always_inline)) {
        vfloat sums[size()][VECTORS];
        for (int p = 0; p < size(); p++) {
            for (int v = 0; v < VECTORS; v++) sums[p][v] = splat(layer.bias[first + p]);
        }
        multiply<size()>(layer, first, x, sums);
        for (int p = 0; p < size(); p += 2) {
            for (int v = 0; v < VECTORS; v++) sink(first + p, v, sums[p][v], sums[p + 1][v]);
        }
    });
}
