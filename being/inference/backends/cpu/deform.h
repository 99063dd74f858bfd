// One block of canonical Gaussians: deformed by the network, activated and projected.
#pragma once

#include <chrono>

#include "../../../splat/cpu/radix_sort.h"
#include "../../../splat/cpu/screen_shape.h"
#include "network.h"

// The canonical Gaussians and their queries, block by block: [rows][BLOCK]. The last Gaussian is
// repeated until the last block is full.
struct CanonicalBlocks {
    int64_t count = 0;
    int width = 0, coefficients = 0;
    Buffer<float> values;

    enum Row { MEAN, LOG_SCALE = 3, QUATERNION = 6, OPACITY_LOGIT = 10, HARMONIC = 11 };
    // The rows that the network deforms, without the harmonics.
    static constexpr int DEFORMED_ROWS = HARMONIC;
    // The rows of a block of a key frame: the deformed rows, and the colour that its camera sees.
    static constexpr int KEY_FRAME_ROWS = DEFORMED_ROWS + 3;

    // The harmonics are [3][padded coefficients], as the SH head computes them; the query follows.
    int query() const { return HARMONIC + 3 * padded(coefficients); }
    int rows() const { return query() + padded(width); }
    int64_t blocks() const { return (count + BLOCK - 1) / BLOCK; }
    const float* block(int64_t number) const { return values.data() + number * rows() * BLOCK; }

    void fill(const HeadDescription& d, TensorReader& reader) {
        count = d.count;
        width = int(d.width);
        coefficients = int((d.degree + 1) * (d.degree + 1));
        values.resize(blocks() * rows() * BLOCK);
        std::fill(values.data(), values.data() + blocks() * rows() * BLOCK, 0.0f);
        const int fields[6][2] = {{MEAN, 3},
                                  {LOG_SCALE, 3},
                                  {QUATERNION, 4},
                                  {OPACITY_LOGIT, 1},
                                  {HARMONIC, 3 * coefficients},
                                  {query(), width}};

        // Each tensor is [count, size]; its columns become rows of the blocks.
        for (const auto& [first, size] : fields) {
            if (!size) continue;  // a head of bases has no queries
            const float* from = *reader.at++;
            for (int64_t i = 0; i < blocks() * BLOCK; i++) {
                const float* source = from + std::min(i, count - 1) * size;
                float* to = values.data() + (i / BLOCK * rows() + first) * BLOCK + i % BLOCK;
                for (int k = 0; k < size; k++) {
                    const int row = first == HARMONIC ? k % 3 * padded(coefficients) + k / 3 : k;
                    to[row * BLOCK] = source[k];
                }
            }
        }
    }
};

// A Gaussian as the blending loop reads it, one cache line. The first six are those of Splat.
struct alignas(64) BlendSplat {
    float x, y, a, lean, b, opacity, colour[3];
    float step;  // the growth of u from one row to the next
    // 2^-2(step^2 + b^2): the factor by which the ratio of alpha between two rows changes.
    float decay;
};

// The Gaussians of a frame on the screen.
struct ScreenGaussians {
    Buffer<BlendSplat> splats;  // [count]
    Buffer<Ellipse> ellipses;   // [count]
    // [count] depth and number of the drawn Gaussians; those of a chunk begin at its first
    // Gaussian.
    Buffer<SortItem> sort_items;
    Buffer<int32_t> drawn;  // [chunks] how many of each chunk are drawn
};

constexpr float LOG2E = 1.44269504f;

// Nanoseconds of the parts of the deformation, summed over blocks.
struct PartTimes {
    int64_t attention = 0, feed_forward = 0, geometry_heads = 0, colour_head = 0, projection = 0;
};

class Stopwatch {
public:
    // Adds the nanoseconds since the last call, or since construction, to `to`.
    void lap(int64_t& to) {
        const auto now = std::chrono::steady_clock::now();
        to += std::chrono::duration_cast<std::chrono::nanoseconds>(now - last_).count();
        last_ = now;
    }

private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Projects blocks of deformed Gaussians of one frame of one head, and appends them to the drawn
// ones.
struct BlockScreen {
    const CanonicalBlocks& canonical;
    const Scene& scene;
    const Camera& camera;
    int degree;

    // Projects the Gaussians between two blocks of key frames. Appends the drawn ones to
    // `sort_items` and returns their number.
    int interpolate(int64_t number, const float* before, const float* after, float share,
                    ScreenGaussians& out, SortItem* sort_items, PartTimes& parts) const {
        alignas(64) float between[CanonicalBlocks::KEY_FRAME_ROWS + 1][BLOCK], colour[3][BLOCK];
        bool visible[BLOCK];
        Stopwatch stopwatch;
        float* to = &between[0][0];
        for (int i = 0; i < CanonicalBlocks::KEY_FRAME_ROWS * BLOCK; i += LANES) {
            const vfloat from = load(before + i);
            store(to + i, from + share * (load(after + i) - from));
        }
        std::memcpy(colour, between[CanonicalBlocks::DEFORMED_ROWS], sizeof colour);
        float (&deformed)[12][BLOCK] = reinterpret_cast<float (&)[12][BLOCK]>(between);
        const int visible_count = project(number, deformed, nullptr, visible, out);
        const int drawn =
            visible_count ? append_drawn(number, colour, visible, out, sort_items) : 0;
        stopwatch.lap(parts.projection);
        return drawn;
    }

    // Writes the basis of the harmonics [16][BLOCK] at the view directions of deformed Gaussians.
    void evaluate_sh(const float (&deformed)[12][BLOCK], float (*basis)[BLOCK]) const {
        for (int v = 0; v < VECTORS; v++) {
            const vfloat mean[3] = {load(deformed[0] + v * LANES), load(deformed[1] + v * LANES),
                                    load(deformed[2] + v * LANES)};
            evaluate_sh(mean, v, basis);
        }
    }

    // Writes deformed Gaussians and their colours to `kept` [KEY_FRAME_ROWS][BLOCK].
    static void keep(const float (&deformed)[12][BLOCK], const float (&colour)[3][BLOCK],
                     float* kept) {
        std::memcpy(kept, deformed, sizeof(float) * CanonicalBlocks::DEFORMED_ROWS * BLOCK);
        std::memcpy(kept + CanonicalBlocks::DEFORMED_ROWS * BLOCK, colour, sizeof colour);
    }

    // Projects the deformed Gaussians (mean, log scale, quaternion, opacity logit; one row of
    // padding). Writes splats and ellipses of the visible ones, and to `basis` [16][BLOCK], unless
    // it is null, the basis of the harmonics of all. Returns the number of visible ones.
    int project(int64_t number, const float (&deformed)[12][BLOCK], float (*basis)[BLOCK],
                bool (&visible)[BLOCK], ScreenGaussians& out) const {
        int visible_count = 0;
        for (int v = 0; v < VECTORS; v++) {
            auto row = [&](int index) { return load(deformed[index] + v * LANES); };
            Geometry g;
            for (int i = 0; i < 3; i++) g.mean[i] = row(CanonicalBlocks::MEAN + i);
            for (int i = 0; i < 3; i++)
                g.scale[i] = exp2_any(LOG2E * row(CanonicalBlocks::LOG_SCALE + i));
            for (int i = 0; i < 4; i++) g.quaternion[i] = row(CanonicalBlocks::QUATERNION + i);
            g.project(camera);
            if (basis) evaluate_sh(g.mean, v, basis);

            // Opacity and shape on the screen.
            const vfloat logit = row(CanonicalBlocks::OPACITY_LOGIT);
            const vfloat opacity = 1.0f / (1.0f + exp2_any(-LOG2E * logit));
            const ScreenShape shape(g);
            const vfloat step = -shape.a * shape.lean_x;
            const vfloat decay = exp2_any(-2.0f * (step * step + shape.b * shape.b));

            // Write the visible ones.
            for (int lane = 0; lane < LANES; lane++) {
                const int at = v * LANES + lane;
                const int64_t id = number * BLOCK + at;
                visible[at] = id < canonical.count && logit[lane] == logit[lane] &&
                              opacity[lane] >= ALPHA_MIN && finite(g.length[lane]) &&
                              is_drawable(g, shape, lane) &&
                              ::screen_rectangle(scene, g, lane, out.ellipses[id]) > 0;
                if (!visible[at]) continue;
                visible_count++;
                shape.outline(g, lane, opacity[lane], out.ellipses[id]);
                // The first colour holds the depth until the colour is known.
                out.splats[id] = {g.x[lane],          g.y[lane],     shape.a[lane],
                                  shape.lean_x[lane], shape.b[lane], opacity[lane],
                                  {g.z[lane], 0, 0},  step[lane],    decay[lane]};
            }
        }
        return visible_count;
    }

    // Writes the basis of the harmonics at the view directions of vector `v` of the means.
    INLINE void evaluate_sh(const vfloat (&mean)[3], int v, float (*basis)[BLOCK]) const {
        const Harmonics harmonics(mean, camera, degree);
        const int used = (degree + 1) * (degree + 1);
        for (int k = 0; k < padded(used); k++) {
            store(basis[k] + v * LANES, k < used ? harmonics.basis[k] : vfloat{});
        }
    }

    // Writes the colours of the visible Gaussians, and appends those with a finite colour to
    // `sort_items`. Returns their number.
    int append_drawn(int64_t number, const float (&colour)[3][BLOCK], const bool (&visible)[BLOCK],
                     ScreenGaussians& out, SortItem* sort_items) const {
        int drawn = 0;
        for (int at = 0; at < BLOCK; at++) {
            if (!visible[at] || !finite(colour[0][at] + colour[1][at] + colour[2][at])) continue;
            const int64_t id = number * BLOCK + at;
            BlendSplat& splat = out.splats[id];
            uint32_t key;
            // Depths are positive, so their bits are in the order of their values.
            std::memcpy(&key, &splat.colour[0], 4);
            sort_items[drawn++] = {key, uint32_t(id)};
            for (int c = 0; c < 3; c++) splat.colour[c] = std::max(0.0f, colour[c][at]);
        }
        return drawn;
    }

    // Prefetches memory that is read soon; past the end of all blocks it does nothing.
    static void prefetch(const float* from, const float* to) {
        for (; from < to; from += 16) __builtin_prefetch(from, 0, 2);
    }
};

// Computes blocks of one frame of one head by the network.
template <class Format>
struct BlockRenderer : BlockScreen {
    const Network<Format>& network;
    const std::vector<FoldedTokens>& folded;
    int tokens;
    Scratch<Format>& scratch;

    // Deforms and projects the Gaussians of block `number`. Appends the drawn ones to `sort_items`
    // and returns their number.
    int deform_and_project(int64_t number, ScreenGaussians& out, SortItem* sort_items,
                           PartTimes& parts) const {
        Scratch<Format>& s = scratch;
        alignas(64) float deformed[12][BLOCK], basis[16][BLOCK], colour[3][BLOCK];
        bool visible[BLOCK];
        deform(number, s, deformed, parts);
        Stopwatch stopwatch;
        const int visible_count = project(number, deformed, basis, visible, out);
        stopwatch.lap(parts.projection);
        if (!visible_count) return 0;
        compute_colours(canonical.block(number), basis, s, colour);
        stopwatch.lap(parts.colour_head);
        return append_drawn(number, colour, visible, out, sort_items);
    }

    // Deforms the Gaussians of block `number` and writes them to `kept` [KEY_FRAME_ROWS][BLOCK].
    void deform_key_frame(int64_t number, float* kept, PartTimes& parts) const {
        Scratch<Format>& s = scratch;
        alignas(64) float deformed[12][BLOCK], basis[16][BLOCK], colour[3][BLOCK];
        deform(number, s, deformed, parts);
        Stopwatch stopwatch;
        evaluate_sh(deformed, basis);
        compute_colours(canonical.block(number), basis, s, colour);
        keep(deformed, colour, kept);
        stopwatch.lap(parts.colour_head);
    }

    // Carries block `number` through the network. Writes its rows without the harmonics to
    // `deformed`, and the inputs of the SH head to s.packed.
    void deform(int64_t number, Scratch<Format>& s, float (&deformed)[12][BLOCK],
                PartTimes& parts) const {
        const float* raw = canonical.block(number);
        const float* query = raw + canonical.query() * BLOCK;
        Stopwatch stopwatch;
        prefetch(raw, query);
        for (size_t l = 0; l < network.layers.size(); l++) {
            network.attend(network.layers[l], folded[l], tokens, l ? s.x : query, s);
            stopwatch.lap(parts.attention);
            network.feed_forward(network.layers[l], s);
            stopwatch.lap(parts.feed_forward);
        }
        prefetch(query + canonical.rows() * BLOCK,
                 query + (canonical.rows() + padded(canonical.width)) * BLOCK);  // the next block
        decode(MEANS_HEAD, CanonicalBlocks::MEAN, 3, raw, s, deformed);
        decode(SCALES_HEAD, CanonicalBlocks::LOG_SCALE, 3, raw, s, deformed);
        decode(ROTATIONS_HEAD, CanonicalBlocks::QUATERNION, 4, raw, s, deformed);
        decode(OPACITY_HEAD, CanonicalBlocks::OPACITY_LOGIT, 1, raw, s, deformed);
        stopwatch.lap(parts.geometry_heads);
    }

    // deformed[row ...] = canonical rows + outputs of the decoder.
    INLINE void decode(DecoderName head, int row, int outputs, const float* raw, Scratch<Format>& s,
                       float (&deformed)[12][BLOCK]) const {
        network.decode(head, s, [&](int output, int v, vfloat even, vfloat odd) {
            const float* from = raw + (row + output) * BLOCK + v * LANES;
            if (output < outputs) store(deformed[row + output] + v * LANES, load(from) + even);
            if (output + 1 < outputs)
                store(deformed[row + output + 1] + v * LANES, load(from + BLOCK) + odd);
        });
    }

    // The colours at the view directions. Each output of the SH head is used at once and not
    // stored.
    void compute_colours(const float* raw, const float (&basis)[16][BLOCK], Scratch<Format>& s,
                         float (&colour)[3][BLOCK]) const {
        for (int c = 0; c < 3; c++) {
            for (int v = 0; v < VECTORS; v++) store(colour[c] + v * LANES, broadcast(0.5f));
        }
        const auto& decoder = network.decoders[SH_HEAD];
        const int row = padded(canonical.coefficients);
        network.relu_layer(decoder.first, s.packed, s.hidden);
        for_each_panel(decoder.second, [&](int first, auto size) __attribute__((always_inline)) {
            const float* harmonics = raw + (CanonicalBlocks::HARMONIC + first) * BLOCK;
            vfloat sums[size()][VECTORS];
            for (int p = 0; p < size(); p++) {
                for (int v = 0; v < VECTORS; v++) {
                    sums[p][v] =
                        load(harmonics + p * BLOCK + v * LANES) + decoder.second.bias[first + p];
                }
            }
            multiply<size()>(decoder.second, first, s.hidden, sums);

            for (int p = 0; p < size() && first + p < 3 * row; p += GROUP) {
                // A group of outputs belongs to one colour.
                for (int v = 0; v < VECTORS; v++) {
                    float* to = colour[(first + p) / row] + v * LANES;
                    const float* by = basis[(first + p) % row] + v * LANES;
                    vfloat total = load(to);
                    for (int k = 0; k < GROUP; k++) total += sums[p + k][v] * load(by + k * BLOCK);
                    store(to, total);
                }
            }
        });
    }
};
