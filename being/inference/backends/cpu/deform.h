// A block of canonical Gaussians, moved by the network, activated, and put on the screen.
#pragma once

#include <chrono>

#include "../../../splat/cpu/place.h"
#include "network.h"

// Canonical Gaussians and queries, block by block: [rows][BLOCK]; past the last Gaussian the last
// one is repeated.
struct Canonical {
    int64_t count = 0;
    int width = 0, coefficients = 0;
    Buffer<float> values;

    enum Row { MEAN, LOG_SCALE = 3, QUATERNION = 6, OPACITY_LOGIT = 10, HARMONIC = 11 };
    static constexpr int MOVED = HARMONIC;  // rows that the network moves, but for the harmonics
    static constexpr int KEPT =
        MOVED + 3;  // rows of a kept block: moved, and colours at its frame's view directions

    // The harmonics are [3][padded coefficients], as the SH head gives them; then comes the query.
    int query() const { return HARMONIC + 3 * padded(coefficients); }
    int rows() const { return query() + padded(width); }
    int64_t blocks() const { return (count + BLOCK - 1) / BLOCK; }
    const float* block(int64_t number) const { return values.data() + number * rows() * BLOCK; }

    void fill(const Description& d, Reader& reader) {
        count = d.count, width = int(d.width), coefficients = int((d.degree + 1) * (d.degree + 1));
        values.resize(blocks() * rows() * BLOCK);
        std::fill(values.data(), values.data() + blocks() * rows() * BLOCK, 0.0f);
        const int fields[6][2] = {{MEAN, 3},
                                  {LOG_SCALE, 3},
                                  {QUATERNION, 4},
                                  {OPACITY_LOGIT, 1},
                                  {HARMONIC, 3 * coefficients},
                                  {query(), width}};
        for (const auto& [first, size] : fields) {
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

// A Gaussian as the blending loop reads it: one cache line. See Splat for the first six.
struct alignas(64) Mark {
    float x, y, a, lean, b, opacity, colour[3];
    float step;   // what u grows by from one row to the next
    float decay;  // 2^-2(step^2 + b^2): what the ratio of one row's alpha to the last one's is
                  // multiplied by
};

// Where a frame's Gaussians are on the screen.
struct Placed {
    Buffer<Mark> marks;        // [count]
    Buffer<Ellipse> ellipses;  // [count]
    Buffer<Keyed>
        keyed;  // [count] the drawn ones of each chunk at the chunk's start: depth bits, number
    Buffer<int32_t> drawn;  // [chunks]
};

constexpr float LOG2E = 1.44269504f;

// Nanoseconds that the parts of the deformation took, of all blocks together.
struct Parts {
    int64_t attention = 0, feed_forward = 0, geometry_heads = 0, colour_head = 0, projection = 0;
};

class Clock {
public:
    // Adds the time since the last call.
    void lap(int64_t& to) {
        const auto now = std::chrono::steady_clock::now();
        to += std::chrono::duration_cast<std::chrono::nanoseconds>(now - last_).count();
        last_ = now;
    }

private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// One frame of one head.
template <class Format>
struct Deformer {
    const Canonical& canonical;
    const Network<Format>& network;
    const std::vector<Mixing>& mixing;
    const Scene& scene;
    const Camera& camera;
    int tokens, degree;

    // Moves and places the Gaussians of block `number`; appends the drawn ones to `keyed` and
    // returns how many.
    int run(int64_t number, Scratch<Format>& s, Placed& out, Keyed* keyed, Parts& parts) const {
        alignas(64) float moved[12][BLOCK], basis[16][BLOCK], colour[3][BLOCK];
        bool visible[BLOCK];
        move(number, s, moved, parts);
        Clock clock;
        const int seen = place(number, moved, basis, visible, out);
        clock.lap(parts.projection);
        if (!seen) return 0;
        colours(canonical.block(number), basis, s, colour);
        clock.lap(parts.colour_head);
        return finish(number, colour, visible, out, keyed);
    }

    // Moves the Gaussians of block `number` and keeps them, [KEPT][BLOCK].
    void keep(int64_t number, Scratch<Format>& s, float* kept, Parts& parts) const {
        alignas(64) float moved[12][BLOCK], basis[16][BLOCK], colour[3][BLOCK];
        move(number, s, moved, parts);
        Clock clock;
        for (int v = 0; v < VECTORS; v++) {
            const vfloat mean[3] = {load(moved[0] + v * LANES), load(moved[1] + v * LANES),
                                    load(moved[2] + v * LANES)};
            look(mean, v, basis);
        }
        colours(canonical.block(number), basis, s, colour);
        std::memcpy(kept, moved, sizeof(float) * Canonical::MOVED * BLOCK);
        std::memcpy(kept + Canonical::MOVED * BLOCK, colour, sizeof colour);
        clock.lap(parts.colour_head);
    }

    // Places what lies between two kept blocks, as `run` does.
    int mix(int64_t number, const float* before, const float* after, float share, Placed& out,
            Keyed* keyed, Parts& parts) const {
        alignas(64) float mixed[Canonical::KEPT + 1][BLOCK], colour[3][BLOCK];
        bool visible[BLOCK];
        Clock clock;
        float* to = &mixed[0][0];
        for (int i = 0; i < Canonical::KEPT * BLOCK; i += LANES) {
            const vfloat from = load(before + i);
            store(to + i, from + share * (load(after + i) - from));
        }
        std::memcpy(colour, mixed[Canonical::MOVED], sizeof colour);
        float (&moved)[12][BLOCK] = reinterpret_cast<float (&)[12][BLOCK]>(mixed);
        const int seen = place(number, moved, nullptr, visible, out);
        const int drawn = seen ? finish(number, colour, visible, out, keyed) : 0;
        clock.lap(parts.projection);
        return drawn;
    }

    // Carries block `number` through the network: its Gaussians but for the harmonics, and in s.low
    // the heads' inputs.
    void move(int64_t number, Scratch<Format>& s, float (&moved)[12][BLOCK], Parts& parts) const {
        const float* raw = canonical.block(number);
        const float* query = raw + canonical.query() * BLOCK;
        Clock clock;
        fetch(raw, query);
        for (size_t l = 0; l < network.layers.size(); l++) {
            network.attend(network.layers[l], mixing[l], tokens, l ? s.x : query, s);
            clock.lap(parts.attention);
            network.feed(network.layers[l], s);
            clock.lap(parts.feed_forward);
        }
        fetch(query + canonical.rows() * BLOCK,
              query + (canonical.rows() + padded(canonical.width)) * BLOCK);  // the next
        decode(MEANS_HEAD, Canonical::MEAN, 3, raw, s, moved);
        decode(SCALES_HEAD, Canonical::LOG_SCALE, 3, raw, s, moved);
        decode(ROTATIONS_HEAD, Canonical::QUATERNION, 4, raw, s, moved);
        decode(OPACITY_HEAD, Canonical::OPACITY_LOGIT, 1, raw, s, moved);
        clock.lap(parts.geometry_heads);
    }

    // Asks for memory that is read soon; past the end of all blocks it does nothing.
    static void fetch(const float* from, const float* to) {
        for (; from < to; from += 16) __builtin_prefetch(from, 0, 2);
    }

    // moved[row ...] = canonical + the head's outputs.
    INLINE void decode(HeadName head, int row, int outputs, const float* raw, Scratch<Format>& s,
                       float (&moved)[12][BLOCK]) const {
        network.decode(head, s, [&](int output, int v, vfloat even, vfloat odd) {
            const float* from = raw + (row + output) * BLOCK + v * LANES;
            if (output < outputs) store(moved[row + output] + v * LANES, load(from) + even);
            if (output + 1 < outputs)
                store(moved[row + output + 1] + v * LANES, load(from + BLOCK) + odd);
        });
    }

    // Fills the harmonics at the view directions of vector `v` of means.
    INLINE void look(const vfloat (&mean)[3], int v, float (*basis)[BLOCK]) const {
        const Harmonics harmonics(mean, camera, degree);
        const int used = (degree + 1) * (degree + 1);
        for (int k = 0; k < padded(used); k++) {
            store(basis[k] + v * LANES, k < used ? harmonics.basis[k] : vfloat{});
        }
    }

    // Projects the moved Gaussians (mean, log scale, quaternion, opacity logit; one row of
    // padding), fills marks and ellipses of those that can be seen, and where it is given `basis`
    // [16][BLOCK] with the harmonics of all.
    int place(int64_t number, const float (&moved)[12][BLOCK], float (*basis)[BLOCK],
              bool (&visible)[BLOCK], Placed& out) const {
        int seen = 0;
        for (int v = 0; v < VECTORS; v++) {
            auto row = [&](int index) { return load(moved[index] + v * LANES); };
            Geometry g;
            for (int i = 0; i < 3; i++) g.mean[i] = row(Canonical::MEAN + i);
            for (int i = 0; i < 3; i++)
                g.scale[i] = exp2_any(LOG2E * row(Canonical::LOG_SCALE + i));
            for (int i = 0; i < 4; i++) g.quaternion[i] = row(Canonical::QUATERNION + i);
            g.project(camera);
            if (basis) look(g.mean, v, basis);
            const vfloat logit = row(Canonical::OPACITY_LOGIT);
            const vfloat opacity = 1.0f / (1.0f + exp2_any(-LOG2E * logit));
            const Shape shape(g);
            const vfloat step = -shape.a * shape.lean_x;
            const vfloat decay = exp2_any(-2.0f * (step * step + shape.b * shape.b));
            for (int lane = 0; lane < LANES; lane++) {
                const int at = v * LANES + lane;
                const int64_t id = number * BLOCK + at;
                visible[at] = id < canonical.count && logit[lane] == logit[lane] &&
                              opacity[lane] >= ALPHA_MIN && finite(g.length[lane]) &&
                              projects(g, shape, lane) &&
                              ::place(scene, g, lane, out.ellipses[id]) > 0;
                if (!visible[at]) continue;
                seen++;
                shape.outline(g, lane, opacity[lane], out.ellipses[id]);
                out.marks[id] = {
                    g.x[lane],     g.y[lane],     shape.a[lane],     shape.lean_x[lane],
                    shape.b[lane], opacity[lane], {g.z[lane], 0, 0}, step[lane],
                    decay[lane]};  // the depth, until the colour is known
            }
        }
        return seen;
    }

    // The colours at the view directions: every output of the SH head is used at once and not kept.
    void colours(const float* raw, const float (&basis)[16][BLOCK], Scratch<Format>& s,
                 float (&colour)[3][BLOCK]) const {
        for (int c = 0; c < 3; c++) {
            for (int v = 0; v < VECTORS; v++) store(colour[c] + v * LANES, splat(0.5f));
        }
        const auto& decoder = network.decoders[SH_HEAD];
        const int row = padded(canonical.coefficients);
        network.rectify(decoder.first, s.low, s.hidden);
        for_each_panel(decoder.second, [&](int first, auto size) __attribute__((always_inline)) {
            const float* harmonics = raw + (Canonical::HARMONIC + first) * BLOCK;
            vfloat sums[size()][VECTORS];
            for (int p = 0; p < size(); p++) {
                for (int v = 0; v < VECTORS; v++) {
                    sums[p][v] =
                        load(harmonics + p * BLOCK + v * LANES) + decoder.second.bias[first + p];
                }
            }
            multiply<size()>(decoder.second, first, s.hidden, sums);
            for (int p = 0; p < size() && first + p < 3 * row; p += GROUP) {  // of one colour
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

    int finish(int64_t number, const float (&colour)[3][BLOCK], const bool (&visible)[BLOCK],
               Placed& out, Keyed* keyed) const {
        int drawn = 0;
        for (int at = 0; at < BLOCK; at++) {
            if (!visible[at] || !finite(colour[0][at] + colour[1][at] + colour[2][at])) continue;
            const int64_t id = number * BLOCK + at;
            Mark& mark = out.marks[id];
            uint32_t key;
            std::memcpy(&key, &mark.colour[0], 4);  // depths are positive, so bits order as numbers
            keyed[drawn++] = {key, uint32_t(id)};
            for (int c = 0; c < 3; c++) mark.colour[c] = std::max(0.0f, colour[c][at]);
        }
        return drawn;
    }
};
