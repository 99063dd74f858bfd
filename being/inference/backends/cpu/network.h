// The deformation network over one block of Gaussians: attention, feed-forward layers, decoders.
//
// The rows of a block [width][BLOCK], one Gaussian a lane, stay in the first-level cache from the
// first layer to the last.
#pragma once

#include <cmath>

#include "dense.h"

// The sizes and tensors of a head, as Python passes them. `HeadDescription` in library.py has the
// same fields. Weights are [outputs, inputs], as torch stores them.
struct HeadDescription {
    int64_t count, width, heads, layers, hidden, decoder_width, degree, size, low_precision;
    int64_t bases;  // of a head of bases, which has no network; else 0
    double focal;
    // In the order of `Network::fill`, then of `CanonicalBlocks::fill`. Of a head of bases: those
    // of `CanonicalBlocks::fill` without the queries, then the bases [bases, count, 14].
    const float* const* tensors;
};

struct Norm {
    std::vector<float> gamma, beta;
    float epsilon = 0;

    // Normalises rows x [width][BLOCK] in place. Calls sink(row, vector, value, value of the next
    // row) for every second row.
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

// A frame's tokens folded into the attention of one layer. For queries x: scores = x A + c, in
// powers of two; output = shares U, with bias. See being/model/folding.py.
struct FoldedTokens {
    Dense<Float32> scores, values;
};

// One layer of the transformer.
template <class Format>
struct Layer {
    // Token -> column of A, and c: [heads][width + 1][width], [heads][width + 1].
    std::vector<float> score_map, score_bias;
    // Token -> row of U: [heads][width][width], [heads][width].
    std::vector<float> value_map, value_bias;
    Norm norms[2];
    Dense<Format> first, second;
};

// One decoding head.
template <class Format>
struct Decoder {
    Dense<Format> first, second;
};

// In the order of DECODING_HEADS in being/model/gaussiantalker.py.
enum DecoderName { MEANS_HEAD, SCALES_HEAD, ROTATIONS_HEAD, OPACITY_HEAD, SH_HEAD, DECODERS };

// Reads the tensors of the description, one after the other.
struct TensorReader {
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

// The memory in which one thread carries a block through the network.
template <class Format>
struct Scratch {
    Buffer<float> memory;
    float *x, *shares;                       // rows of the block; shares of the tokens
    typename Format::Item *packed, *hidden;  // inputs of a layer; its hidden values

    void resize(int width, int widest, int scores) {
        memory.resize(int64_t(padded(width) * 2 + padded(widest) + padded(scores)) * BLOCK);
        x = memory.data();
        packed = reinterpret_cast<typename Format::Item*>(x + padded(width) * BLOCK);
        hidden = packed + padded(width) * BLOCK;
        shares = reinterpret_cast<float*>(hidden + padded(widest) * BLOCK);
    }
};

// The weights of the network, and its steps over a block.
template <class Format>
struct Network {
    int width = 0, heads = 0, hidden = 0, decoder_width = 0;
    std::vector<Layer<Format>> layers;
    Decoder<Format> decoders[DECODERS];

    void fill(const HeadDescription& d, TensorReader& reader) {
        width = int(d.width);
        heads = int(d.heads);
        hidden = int(d.hidden);
        decoder_width = int(d.decoder_width);

        // The layers of the transformer.
        layers.resize(size_t(d.layers));
        for (auto& layer : layers) {
            layer.score_map = reader.copy(size_t(heads) * (width + 1) * width);
            layer.score_bias = reader.copy(size_t(heads) * (width + 1));
            layer.value_map = reader.copy(size_t(heads) * width * width);
            layer.value_bias = reader.copy(size_t(heads) * width);
            for (int n = 0; n < 2; n++) {
                Norm& norm = layer.norms[n];
                norm.gamma = reader.copy(size_t(width));
                norm.beta = reader.copy(size_t(width));
                // Zeros keep the padding zero.
                norm.gamma.resize(padded(width));
                norm.beta.resize(padded(width));
                norm.epsilon = *reader.copy(1).data();
                if (n == 0) {
                    reader.dense(layer.first, width, hidden);
                    reader.dense(layer.second, hidden, width);
                }
            }
        }

        // The decoding heads.
        const int outputs[] = {3, 3, 4, 1};
        for (int h = 0; h < DECODERS; h++) {
            reader.dense(decoders[h].first, width, decoder_width);
            if (h != SH_HEAD) reader.dense(decoders[h].second, decoder_width, outputs[h]);
        }
        const float* weight = *reader.at++;
        fill_sh_decoder(int((d.degree + 1) * (d.degree + 1)), weight, *reader.at++);
    }

    // Fills the last layer of the SH head, colour by colour [3][padded coefficients], so that a
    // group of outputs belongs to one colour.
    void fill_sh_decoder(int coefficients, const float* weight, const float* bias) {
        Dense<Format>& layer = decoders[SH_HEAD].second;
        const int row = padded(coefficients);
        layer.resize(decoder_width, 3 * row);
        for (int o = 0; o < 3 * coefficients; o++) {
            const int to = o % 3 * row + o / 3;
            layer.bias[to] = bias[o];
            for (int i = 0; i < decoder_width; i++)
                layer.set(i, to, weight[size_t(o) * decoder_width + i]);
        }
    }

    // Folds the tokens [count][width] of a frame into the attention of all layers.
    void fold(const float* tokens, int count, std::vector<FoldedTokens>& folded) const {
        folded.resize(layers.size());
        std::vector<float> row(size_t(width) + 1);
        for (size_t l = 0; l < layers.size(); l++) {
            folded[l].scores.resize(width, heads * count);
            folded[l].values.resize(heads * count, width);
            for (int h = 0; h < heads; h++) {
                for (int t = 0; t < count; t++) {
                    const int share = h * count + t;
                    apply_map(layers[l].score_map, layers[l].score_bias, h, width + 1,
                              tokens + t * width, row.data());
                    for (int i = 0; i < width; i++) folded[l].scores.set(i, share, row[i]);
                    folded[l].scores.bias[share] = row[width];
                    apply_map(layers[l].value_map, layers[l].value_bias, h, width,
                              tokens + t * width, row.data());
                    for (int i = 0; i < width; i++) folded[l].values.set(share, i, row[i]);
                }
            }
        }
    }

    void apply_map(const std::vector<float>& map, const std::vector<float>& bias, int head,
                   int rows, const float* token, float* out) const {
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

    // The shares of the tokens: softmax over the scores of each head [heads * tokens][BLOCK], in
    // place.
    void softmax(float* scores, int tokens) const {
        for (int h = 0; h < heads; h++) {
            for (int v = 0; v < VECTORS; v++) {
                float* column = scores + h * tokens * BLOCK + v * LANES;
                vfloat largest = load(column), total = {};
                for (int t = 1; t < tokens; t++) largest = vmax(largest, load(column + t * BLOCK));
                for (int t = 0; t < tokens; t++) {
                    const vfloat share =
                        exp2_negative(vmin(largest - load(column + t * BLOCK), broadcast(120.0f)));
                    store(column + t * BLOCK, share);
                    total += share;
                }
                const vfloat scale = 1.0f / total;
                for (int t = 0; t < tokens; t++)
                    store(column + t * BLOCK, load(column + t * BLOCK) * scale);
            }
        }
    }

    // Attention, add, norm: from rows x to s.x, and to s.packed as inputs of the feed-forward
    // layers.
    void attend(const Layer<Format>& layer, const FoldedTokens& folded, int tokens, const float* x,
                Scratch<Format>& s) const {
        apply(folded.scores, x, [&](int row, int v, vfloat even, vfloat odd) {
            Float32::store_inputs(s.shares, row, v, even, odd);
        });
        softmax(s.shares, tokens);
        apply(folded.values, s.shares, [&](int row, int v, vfloat even, vfloat odd) {
            const int at = row * BLOCK + v * LANES;
            store(s.x + at, load(x + at) + even);
            store(s.x + at + BLOCK, load(x + at + BLOCK) + odd);
        });
        layer.norms[0].apply(s.x, width, [&](int row, int v, vfloat even, vfloat odd) {
            Format::store_inputs(s.packed, row, v, even, odd);
        });
    }

    // Feed-forward, add, norm: from s.x and s.packed to s.x, and through a ReLU to s.packed as
    // inputs of the decoders.
    void feed_forward(const Layer<Format>& layer, Scratch<Format>& s) const {
        relu_layer(layer.first, s.packed, s.hidden);
        apply(layer.second, s.hidden, [&](int row, int v, vfloat even, vfloat odd) {
            const int at = row * BLOCK + v * LANES;
            store(s.x + at, load(s.x + at) + even);
            store(s.x + at + BLOCK, load(s.x + at + BLOCK) + odd);
        });
        layer.norms[1].apply(s.x, width, [&](int row, int v, vfloat even, vfloat odd) {
            Format::store_inputs(s.packed, row, v, vmax(even, vfloat{}), vmax(odd, vfloat{}));
        });
    }

    // The ReLU of a layer's outputs, stored as inputs of the next layer.
    static void relu_layer(const Dense<Format>& layer, const typename Format::Item* x,
                           typename Format::Item* to) {
        apply(layer, x, [&](int row, int v, vfloat even, vfloat odd) {
            Format::store_inputs(to, row, v, vmax(even, vfloat{}), vmax(odd, vfloat{}));
        });
    }

    // Computes the outputs of a decoder. Calls sink(output, vector, value, value of the next
    // output) for every second output.
    template <class Sink>
    INLINE void decode(DecoderName head, Scratch<Format>& s, Sink&& sink) const {
        relu_layer(decoders[head].first, s.packed, s.hidden);
        apply(decoders[head].second, s.hidden, sink);
    }
};
