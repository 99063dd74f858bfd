// The deformation network over one block of Gaussians: attention over a frame's tokens,
// feed-forward layers, heads.
//
// Rows of a block stay in the first cache from the first layer to the last: [width][BLOCK], one
// Gaussian a lane.
#pragma once

#include <cmath>

#include "dense.h"

// What Python hands over; weights are torch's [outputs, inputs]. Mirrored field by field in
// cpu/__init__.py.
struct Description {
    int64_t count, width, heads, layers, hidden, deep, degree, size, low_precision;
    double focal;
    const float* const* tensors;  // in the order of `fill` below, the canonical Gaussians last
};

struct Norm {
    std::vector<float> gamma, beta;
    float epsilon = 0;

    // Normalises rows x [width][BLOCK] in place and calls sink(row, vector, value, value of the
    // next row).
    template <class Sink>
    INLINE void apply(float* x, int width, Sink&& sink) const {
        for (int v = 0; v < VECTORS; v++) {
            float* column = x + v * LANES;
            vfloat total = {}, square = {};
            for (int i = 0; i < width; i++) total += load(column + i * BLOCK);
            const vfloat mean = total * (1.0f / float(width));
            for (int i = 0; i < width; i++) {
                const vfloat d = load(column + i * BLOCK) - mean;
                square += d * d;
            }
            const vfloat scale = 1.0f / vsqrt(square * (1.0f / float(width)) + epsilon);
            for (int i = 0; i < padded(width); i += 2) {
                const vfloat even = (load(column + i * BLOCK) - mean) * scale * gamma[i] + beta[i];
                const vfloat odd =
                    (load(column + (i + 1) * BLOCK) - mean) * scale * gamma[i + 1] + beta[i + 1];
                store(column + i * BLOCK, even);
                store(column + (i + 1) * BLOCK, odd);
                sink(i, v, even, odd);
            }
        }
    }
};

// What a frame's tokens make of one layer's attention: scores = x A + c in powers of two, out =
// shares U (with bias).
struct Mixing {
    Dense<Float32> scores, values;
};

template <class Format>
struct Layer {
    std::vector<float> score_map,
        score_bias;  // [heads][width + 1][width], [heads][width + 1]: token -> column of A, c
    std::vector<float> value_map,
        value_bias;  // [heads][width][width], [heads][width]: token -> row of U
    Norm norms[2];
    Dense<Format> first, second;
};

template <class Format>
struct Decoder {
    Dense<Format> first, second;
};

enum HeadName { MEANS_HEAD, SCALES_HEAD, ROTATIONS_HEAD, OPACITY_HEAD, SH_HEAD, HEADS };

// Reads the description's tensors one after the other.
struct Reader {
    const float* const* at;
    std::vector<float> copy(size_t size) {
        const float* from = *at++;
        return std::vector<float>(from, from + size);
    }
    template <class Format>
    void dense(Dense<Format>& layer, int inputs, int outputs) {
        const float* weight = *at++;
        layer.fill(weight, *at++, inputs, outputs);
    }
};

// What one thread needs to carry a block through the network.
template <class Format>
struct Scratch {
    Buffer<float> memory;
    float *x, *shares;
    typename Format::Item *low, *hidden;

    void resize(int width, int widest, int scores) {
        memory.resize(int64_t(padded(width) * 2 + padded(widest) + padded(scores)) * BLOCK);
        x = memory.data();
        low = reinterpret_cast<typename Format::Item*>(x + padded(width) * BLOCK);
        hidden = low + padded(width) * BLOCK;
        shares = reinterpret_cast<float*>(hidden + padded(widest) * BLOCK);
    }
};

template <class Format>
struct Network {
    int width = 0, heads = 0, hidden = 0, deep = 0;
    std::vector<Layer<Format>> layers;
    Decoder<Format> decoders[HEADS];

    void fill(const Description& d, Reader& reader) {
        width = int(d.width), heads = int(d.heads), hidden = int(d.hidden), deep = int(d.deep);
        layers.resize(size_t(d.layers));
        for (auto& layer : layers) {
            layer.score_map = reader.copy(size_t(heads) * (width + 1) * width);
            layer.score_bias = reader.copy(size_t(heads) * (width + 1));
            layer.value_map = reader.copy(size_t(heads) * width * width);
            layer.value_bias = reader.copy(size_t(heads) * width);
            for (int n = 0; n < 2; n++) {
                Norm& norm = layer.norms[n];
                norm.gamma = reader.copy(size_t(width)), norm.beta = reader.copy(size_t(width));
                norm.gamma.resize(padded(width)),
                    norm.beta.resize(padded(width));  // zeros: padding stays zero
                norm.epsilon = *reader.copy(1).data();
                if (n == 0) {
                    reader.dense(layer.first, width, hidden);
                    reader.dense(layer.second, hidden, width);
                }
            }
        }
        const int outputs[] = {3, 3, 4, 1};
        for (int h = 0; h < HEADS; h++) {
            reader.dense(decoders[h].first, width, deep);
            if (h != SH_HEAD) reader.dense(decoders[h].second, deep, outputs[h]);
        }
        const float* weight = *reader.at++;
        fill_harmonics(int((d.degree + 1) * (d.degree + 1)), weight, *reader.at++);
    }

    // The SH head's last layer, colour by colour [3][padded coefficients]: one panel is of one
    // colour.
    void fill_harmonics(int coefficients, const float* weight, const float* bias) {
        Dense<Format>& layer = decoders[SH_HEAD].second;
        const int row = padded(coefficients);
        layer.resize(deep, 3 * row);
        for (int o = 0; o < 3 * coefficients; o++) {
            const int to = o % 3 * row + o / 3;
            layer.bias[to] = bias[o];
            for (int i = 0; i < deep; i++) layer.set(i, to, weight[size_t(o) * deep + i]);
        }
    }

    // Folds the tokens [count][width] of a frame into the layers' attention.
    void fold(const float* tokens, int count, std::vector<Mixing>& mixing) const {
        mixing.resize(layers.size());
        std::vector<float> row(size_t(width) + 1);
        for (size_t l = 0; l < layers.size(); l++) {
            mixing[l].scores.resize(width, heads * count);
            mixing[l].values.resize(heads * count, width);
            for (int h = 0; h < heads; h++) {
                for (int t = 0; t < count; t++) {
                    const int share = h * count + t;
                    project(layers[l].score_map, layers[l].score_bias, h, width + 1,
                            tokens + t * width, row.data());
                    for (int i = 0; i < width; i++) mixing[l].scores.set(i, share, row[i]);
                    mixing[l].scores.bias[share] = row[width];
                    project(layers[l].value_map, layers[l].value_bias, h, width, tokens + t * width,
                            row.data());
                    for (int i = 0; i < width; i++) mixing[l].values.set(share, i, row[i]);
                }
            }
        }
    }

    void project(const std::vector<float>& map, const std::vector<float>& bias, int head, int rows,
                 const float* token, float* out) const {
        const float* matrix = map.data() + size_t(head) * rows * width;
        for (int r = 0; r < rows; r++) {
            alignas(64) float lanes[LANES] = {};
            vfloat sums = {};
            int i = 0;
            for (; i + LANES <= width; i += LANES)
                sums += load(matrix + size_t(r) * width + i) * load(token + i);
            for (int k = 0; i < width; i++, k++)
                lanes[k] = matrix[size_t(r) * width + i] * token[i];
            out[r] = bias[size_t(head) * rows + r] + sum(sums + load(lanes));
        }
    }

    // Shares of the tokens: softmax over each head's scores [heads * tokens][BLOCK], in place.
    void softmax(float* scores, int tokens) const {
        for (int h = 0; h < heads; h++) {
            for (int v = 0; v < VECTORS; v++) {
                float* column = scores + h * tokens * BLOCK + v * LANES;
                vfloat largest = load(column), total = {};
                for (int t = 1; t < tokens; t++) largest = vmax(largest, load(column + t * BLOCK));
                for (int t = 0; t < tokens; t++) {
                    const vfloat share =
                        exp2_negative(vmin(largest - load(column + t * BLOCK), splat(120.0f)));
                    store(column + t * BLOCK, share);
                    total += share;
                }
                const vfloat scale = 1.0f / total;
                for (int t = 0; t < tokens; t++)
                    store(column + t * BLOCK, load(column + t * BLOCK) * scale);
            }
        }
    }

    // Attention, add, norm: from rows x to s.x, and in s.low as the feed-forward part reads them.
    void attend(const Layer<Format>& layer, const Mixing& mixing, int tokens, const float* x,
                Scratch<Format>& s) const {
        apply(mixing.scores, x, [&](int row, int v, vfloat even, vfloat odd) {
            Float32::put(s.shares, row, v, even, odd);
        });
        softmax(s.shares, tokens);
        apply(mixing.values, s.shares, [&](int row, int v, vfloat even, vfloat odd) {
            const int at = row * BLOCK + v * LANES;
            store(s.x + at, load(x + at) + even);
            store(s.x + at + BLOCK, load(x + at + BLOCK) + odd);
        });
        layer.norms[0].apply(s.x, width, [&](int row, int v, vfloat even, vfloat odd) {
            Format::put(s.low, row, v, even, odd);
        });
    }

    // Feed-forward, add, norm: from s.x and s.low to s.x, and in s.low through a ReLU as the heads
    // read it.
    void feed(const Layer<Format>& layer, Scratch<Format>& s) const {
        rectify(layer.first, s.low, s.hidden);
        apply(layer.second, s.hidden, [&](int row, int v, vfloat even, vfloat odd) {
            const int at = row * BLOCK + v * LANES;
            store(s.x + at, load(s.x + at) + even);
            store(s.x + at + BLOCK, load(s.x + at + BLOCK) + odd);
        });
        layer.norms[1].apply(s.x, width, [&](int row, int v, vfloat even, vfloat odd) {
            Format::put(s.low, row, v, vmax(even, vfloat{}), vmax(odd, vfloat{}));
        });
    }

    // ReLU of a layer's outputs, as inputs of the next.
    static void rectify(const Dense<Format>& layer, const typename Format::Item* x,
                        typename Format::Item* to) {
        apply(layer, x, [&](int row, int v, vfloat even, vfloat odd) {
            Format::put(to, row, v, vmax(even, vfloat{}), vmax(odd, vfloat{}));
        });
    }

    // Calls sink(output, vector, value, value of the next output) for a head's outputs.
    template <class Sink>
    INLINE void decode(HeadName head, Scratch<Format>& s, Sink&& sink) const {
        rectify(decoders[head].first, s.low, s.hidden);
        apply(decoders[head].second, s.hidden, sink);
    }
};
