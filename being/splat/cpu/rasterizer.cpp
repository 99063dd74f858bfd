// The native rasterizer: the stages of a batch, forward and backward, and the C functions that Python calls.
//
// Forward: project all Gaussians; sort those on screen by depth; list for every tile its Gaussians in that order; blend.
// Backward: walk every tile's list again, writing one gradient a (Gaussian, tile) pair, then add these up Gaussian by
// Gaussian and take them through the projection. Every stage is split into jobs whose results do not depend on the
// thread that does them, so results repeat to the bit for any number of threads.

#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "blend.h"
#include "place.h"
#include "pool.h"

namespace {

constexpr int64_t CHUNK = 512;                      // Gaussians a job of the projection
constexpr int64_t MAX_PARTS = 16;                   // parts of a frame's sorted list, each counted and listed by one job
constexpr int64_t KEPT_BYTES = int64_t(512) << 20;  // larger states are freed and not kept for the next call
constexpr size_t KEPT_STATES = 2;

enum Error { NONE, NO_MEMORY, TOO_MANY_PAIRS };

struct State {
    Buffer<Splat> splats;           // [frames, count]
    Buffer<Ellipse> ellipses;       // [frames, count]
    Buffer<Keyed> sorted, spare;    // [frames, count]
    Buffer<Keyed*> order;           // [frames] the sorted one of these two
    Buffer<int64_t> drawn;          // [frames] Gaussians in the order
    Buffer<uint32_t> touched;       // [frames, count] tiles of each Gaussian
    Buffer<int64_t> slots;          // [frames, count] first slot of each Gaussian, from the frame's first pair
    Buffer<int64_t> frame_pairs;    // [frames + 1] first pair of each frame
    Buffer<uint32_t> positions;     // [frames, parts, tiles] counts, then places in the tile lists
    Buffer<int64_t> tile_starts;    // [frames, tiles + 1] in all pairs
    Buffer<Pair> pairs;
    Buffer<PairGradient> gradients;

    int64_t bytes() const {
        return splats.bytes() + ellipses.bytes() + sorted.bytes() + spare.bytes() + touched.bytes() + slots.bytes() +
               positions.bytes() + tile_starts.bytes() + pairs.bytes() + gradients.bytes();
    }
};

std::mutex kept_mutex;
std::vector<std::unique_ptr<State>>& kept_states() {  // never destroyed: Python may release states while it exits
    static auto* states = new std::vector<std::unique_ptr<State>>;
    return *states;
}

std::unique_ptr<State> take_state() {
    std::lock_guard<std::mutex> lock(kept_mutex);
    auto& kept = kept_states();
    if (kept.empty()) return std::make_unique<State>();
    auto state = std::move(kept.back());
    kept.pop_back();
    return state;
}

int64_t parts_of(const Scene& scene) {
    return std::min<int64_t>(MAX_PARTS, 1 + scene.count / 2048);
}

void evaluate_colours(const Scene& scene, const Harmonics& harmonics, int64_t frame, int64_t first, int64_t end,
                      Splat* splats) {
    const int64_t used = (scene.degree + 1) * (scene.degree + 1);
    const float* sh = scene.sh + frame * scene.stride[SH];
    for (int64_t i = first; i < end; i++) {
        const float* c = sh + i * scene.coefficients * 3;
        float r = 0.5f, g = 0.5f, b = 0.5f;
        for (int64_t k = 0; k < used; k++) {
            float basis = harmonics.basis[k][i - first];
            r += basis * c[3 * k];
            g += basis * c[3 * k + 1];
            b += basis * c[3 * k + 2];
        }
        splats[i].colour[0] = r < 0 ? 0 : r;  // a NaN stays one and is refused later
        splats[i].colour[1] = g < 0 ? 0 : g;
        splats[i].colour[2] = b < 0 ? 0 : b;
    }
}

// Projects Gaussians [first, end) of one frame, end - first <= LANES.
void project_block(const Scene& scene, const Camera& camera, State& state, int64_t frame, int64_t first, int64_t end,
                   int32_t* radii) {
    const Geometry g(scene, camera, frame, first);
    const Harmonics harmonics(g.mean, camera, int(scene.degree));
    Splat* splats = state.splats.data() + frame * scene.count;
    Ellipse* ellipses = state.ellipses.data() + frame * scene.count;
    evaluate_colours(scene, harmonics, frame, first, end, splats);
    const Shape shape(g);
    for (int64_t i = first; i < end; i++) {
        const int lane = int(i - first);
        const float opacity = scene.opacities[frame * scene.stride[OPACITIES] + i];
        Splat& s = splats[i];
        s.x = g.x[lane], s.y = g.y[lane], s.depth = g.z[lane], s.opacity = opacity;
        s.a = shape.a[lane], s.b = shape.b[lane], s.lean = shape.lean_x[lane];
        const bool good = projects(g, shape, lane) && finite(opacity) && finite(s.colour[0]) && finite(s.colour[1]) &&
                          finite(s.colour[2]);
        Ellipse& e = ellipses[i];
        radii[i] = good ? place(scene, g, lane, e) : 0;
        uint32_t touched = 0;
        if (radii[i] && opacity >= ALPHA_MIN) {
            shape.outline(g, lane, opacity, e);
            for_each_tile(e, [&](int, int) { touched++; });
        }
        state.touched[frame * scene.count + i] = touched;
    }
}

// Orders one frame's drawn Gaussians by depth (equal depths by number) and gives each its slots; returns the pairs.
int64_t sort_frame(const Scene& scene, State& state, int64_t frame) {
    const int64_t base = frame * scene.count;
    Keyed* items = state.sorted.data() + base;
    int64_t drawn = 0, pairs = 0;
    for (int64_t i = 0; i < scene.count; i++) {
        state.slots[base + i] = pairs;
        if (uint32_t touched = state.touched[base + i]) {
            pairs += touched;
            uint32_t key;
            std::memcpy(&key, &state.splats[base + i].depth, 4);  // depths are positive, so bits order as numbers
            items[drawn++] = {key, uint32_t(i)};
        }
    }
    state.order[frame] = radix_sort(items, state.spare.data() + base, drawn);
    state.drawn[frame] = drawn;
    return pairs;
}

// Calls visit(ellipse, id) for one part of a frame's depth order.
template <class Visit>
void for_each_in_part(const Scene& scene, const State& state, int64_t frame, int64_t part, Visit&& visit) {
    const int64_t parts = parts_of(scene), drawn = state.drawn[frame];
    const Ellipse* ellipses = state.ellipses.data() + frame * scene.count;
    const Keyed* order = state.order[frame];
    for (int64_t i = drawn * part / parts, end = drawn * (part + 1) / parts; i < end; i++) {
        if (i + 8 < end) __builtin_prefetch(&ellipses[order[i + 8].id]);
        visit(ellipses[order[i].id], order[i].id);
    }
}

void count_part(const Scene& scene, State& state, int64_t frame, int64_t part) {
    const int64_t width = scene.tiles_x();
    uint32_t* counts = state.positions.data() + (frame * parts_of(scene) + part) * scene.tiles();
    std::fill(counts, counts + scene.tiles(), 0u);
    for_each_in_part(scene, state, frame, part, [&](const Ellipse& e, uint32_t) {
        for_each_tile(e, [&](int x, int y) { counts[y * width + x]++; });
    });
}

// Turns the counts of one frame's parts into the places where each part writes in the tile lists.
void place_lists(const Scene& scene, State& state, int64_t frame) {
    const int64_t parts = parts_of(scene), tiles = scene.tiles();
    uint32_t* positions = state.positions.data() + frame * parts * tiles;
    int64_t* starts = state.tile_starts.data() + frame * (tiles + 1);
    uint32_t at = 0;
    for (int64_t tile = 0; tile < tiles; tile++) {
        starts[tile] = state.frame_pairs[frame] + at;
        for (int64_t part = 0; part < parts; part++) {
            uint32_t count = positions[part * tiles + tile];
            positions[part * tiles + tile] = at;
            at += count;
        }
    }
    starts[tiles] = state.frame_pairs[frame] + at;
}

void list_part(const Scene& scene, State& state, int64_t frame, int64_t part) {
    const int64_t width = scene.tiles_x();
    uint32_t* positions = state.positions.data() + (frame * parts_of(scene) + part) * scene.tiles();
    Pair* pairs = state.pairs.data() + state.frame_pairs[frame];
    const int64_t* slots = state.slots.data() + frame * scene.count;
    for_each_in_part(scene, state, frame, part, [&](const Ellipse& e, uint32_t id) {
        uint32_t slot = uint32_t(slots[id]);
        for_each_tile(e, [&](int x, int y) {
            Pair& pair = pairs[positions[y * width + x]++];
            pair.id = id;
            pair.slot = slot++;
            tile_rows(e, x, y, int(scene.height), pair.first, pair.last);
        });
    });
}

void make_room(const Scene& scene, State& state) {
    const int64_t all = scene.frames * scene.count;
    state.splats.resize(all);
    state.ellipses.resize(all);
    state.sorted.resize(all);
    state.spare.resize(all);
    state.touched.resize(all);
    state.slots.resize(all);
    state.order.resize(scene.frames);
    state.drawn.resize(scene.frames);
    state.frame_pairs.resize(scene.frames + 1);
    state.positions.resize(scene.frames * parts_of(scene) * scene.tiles());
    state.tile_starts.resize(scene.frames * (scene.tiles() + 1));
}

Error forward(const Scene& scene, State& state, const Pictures& out, int32_t* radii) {
    Pool& pool = Pool::get();
    const int threads = int(scene.threads);
    const int64_t chunks = (scene.count + CHUNK - 1) / CHUNK, parts = parts_of(scene), tiles = scene.tiles();
    make_room(scene, state);
    pool.run(scene.frames * chunks, threads, [&](int64_t job) {
        const int64_t frame = job / chunks, first = job % chunks * CHUNK, end = std::min(first + CHUNK, scene.count);
        const Camera camera(scene, frame);
        for (int64_t i = first; i < end; i += LANES) {
            project_block(scene, camera, state, frame, i, std::min(i + LANES, end), radii + frame * scene.count);
        }
    });
    pool.run(scene.frames, threads, [&](int64_t frame) { state.frame_pairs[frame + 1] = sort_frame(scene, state, frame); });
    state.frame_pairs[0] = 0;
    for (int64_t frame = 0; frame < scene.frames; frame++) {
        if (state.frame_pairs[frame + 1] > std::numeric_limits<uint32_t>::max()) return TOO_MANY_PAIRS;
        state.frame_pairs[frame + 1] += state.frame_pairs[frame];
    }
    state.pairs.resize(state.frame_pairs[scene.frames]);
    pool.run(scene.frames * parts, threads, [&](int64_t job) { count_part(scene, state, job / parts, job % parts); });
    pool.run(scene.frames, threads, [&](int64_t frame) { place_lists(scene, state, frame); });
    pool.run(scene.frames * parts, threads, [&](int64_t job) { list_part(scene, state, job / parts, job % parts); });
    pool.run(scene.frames * tiles, threads, [&](int64_t job) {
        const int64_t frame = job / tiles, tile = job % tiles, pixels = scene.width * scene.height;
        const int64_t* starts = state.tile_starts.data() + frame * (tiles + 1);
        float* rgb = out.rgb + frame * 3 * pixels;
        float* const planes[5] = {rgb, rgb + pixels, rgb + 2 * pixels, out.depth + frame * pixels,
                                  out.alpha + frame * pixels};
        blend_tile(scene, state.splats.data() + frame * scene.count, state.pairs.data() + starts[tile],
                   starts[tile + 1] - starts[tile], int(tile % scene.tiles_x()), int(tile / scene.tiles_x()), planes);
    });
    return NONE;
}

// The sums over the tiles of each of LANES Gaussians, always in the same order.
struct Summed {
    vfloat g = {}, u = {}, v = {}, uu = {}, uv = {}, vv = {}, colour[3] = {}, depth = {};
    bool seen[LANES] = {};

    Summed(const Scene& scene, const State& state, int64_t frame, int64_t first, int64_t end) {
        const PairGradient* pairs = state.gradients.data() + state.frame_pairs[frame];
        for (int64_t i = first; i < end; i++) {
            const uint32_t count = state.touched[frame * scene.count + i];
            const int lane = int(i - first);
            if (!count) continue;
            seen[lane] = true;
            const PairGradient* p = pairs + state.slots[frame * scene.count + i];
            PairGradient total = p[0];
            for (uint32_t k = 1; k < count; k++) {
                total.g += p[k].g, total.u += p[k].u, total.v += p[k].v;
                total.uu += p[k].uu, total.uv += p[k].uv, total.vv += p[k].vv;
                for (int c = 0; c < 3; c++) total.colour[c] += p[k].colour[c];
                total.depth += p[k].depth;
            }
            const Splat& s = state.splats[frame * scene.count + i];
            g[lane] = total.g, u[lane] = total.u, v[lane] = total.v;
            uu[lane] = total.uu, uv[lane] = total.uv, vv[lane] = total.vv, depth[lane] = total.depth;
            for (int c = 0; c < 3; c++) colour[c][lane] = s.colour[c] > 0 ? total.colour[c] : 0;
        }
    }
};

// Writes, or adds for later frames of a summed field, `width` floats for each seen Gaussian; zero for the unseen.
template <int width>
void write(const Gradients& out, Field field, int64_t frame, int64_t first, int64_t end,
           const vfloat (&value)[width], const bool (&seen)[LANES]) {
    if (!out.out[field]) return;
    float* base = out.out[field] + frame * out.stride[field];
    const bool add = frame > 0 && !out.stride[field];
    for (int64_t i = first; i < end; i++) {
        for (int k = 0; k < width; k++) {
            float x = seen[i - first] ? value[k][i - first] : 0;
            base[i * width + k] = add ? base[i * width + k] + x : x;
        }
    }
}

// Writes the gradient of the coefficients and collects h[k] = sum over colours of dL/dcolour * coefficient.
void backward_sh(const Scene& scene, const Gradients& out, const Harmonics& harmonics, const Summed& sums, int64_t frame,
                 int64_t first, int64_t end, vfloat (&h)[16]) {
    const int64_t used = (scene.degree + 1) * (scene.degree + 1), row = scene.coefficients * 3;
    const float* sh = scene.sh + frame * scene.stride[SH];
    float* base = out.out[SH] ? out.out[SH] + frame * out.stride[SH] : nullptr;
    const bool add = frame > 0 && !out.stride[SH];
    for (int64_t i = first; i < end; i++) {
        const int lane = int(i - first);
        const float d[3] = {sums.colour[0][lane], sums.colour[1][lane], sums.colour[2][lane]};
        float* to = base ? base + i * row : nullptr;
        if (to && !add) std::fill(to, to + row, 0.0f);
        if (!sums.seen[lane]) continue;
        const float* c = sh + i * row;
        for (int64_t k = 0; k < used; k++) {
            h[k][lane] = d[0] * c[3 * k] + d[1] * c[3 * k + 1] + d[2] * c[3 * k + 2];
            if (!to) continue;
            const float basis = harmonics.basis[k][lane];
            for (int j = 0; j < 3; j++) to[3 * k + j] += basis * d[j];
        }
    }
}

void backward_block(const Scene& scene, const Camera& camera, const State& state, const Gradients& out, int64_t frame,
                    int64_t first, int64_t end) {
    const Summed sums(scene, state, frame, first, end);
    const Geometry g(scene, camera, frame, first);
    const Harmonics harmonics(g.mean, camera, int(scene.degree));
    // With z = W d whitened (natural units): dL/dcentre = W^T sum(g z), dL/dcovariance = W^T sum(g z z^T) W / 2.
    const vfloat root_yy = vsqrt(g.yy), w00 = root_yy / vsqrt(g.determinant), w01 = -w00 * g.xy / g.yy;
    const vfloat w11 = 1.0f / root_yy;
    const float unit = 1 / ROOT_HALF_LOG2E, square = 1 / HALF_LOG2E;
    const vfloat u = unit * sums.u, v = unit * sums.v;
    const vfloat uu = 0.5f * square * sums.uu, uv = 0.5f * square * sums.uv, vv = 0.5f * square * sums.vv;
    const vfloat d_centre[2] = {w00 * u, w01 * u + w11 * v};
    const vfloat d_xx = w00 * w00 * uu, d_xy = w00 * (w01 * uu + w11 * uv);
    const vfloat d_yy = w01 * w01 * uu + 2 * w01 * w11 * uv + w11 * w11 * vv;
    vfloat d_mean[3], d_scale[3], d_quaternion[4], h[16] = {}, d_opacity[1];
    g.backward(camera, d_centre[0], d_centre[1], d_xx, d_xy, d_yy, sums.depth, d_mean, d_scale, d_quaternion);
    backward_sh(scene, out, harmonics, sums, frame, first, end, h);
    harmonics.backward(h, int(scene.degree), d_mean);
    for (int lane = 0; lane < LANES; lane++) {
        const int64_t i = std::min(first + lane, end - 1);
        d_opacity[0][lane] = sums.g[lane] / scene.opacities[frame * scene.stride[OPACITIES] + i];
    }
    write(out, MEANS, frame, first, end, d_mean, sums.seen);
    write(out, QUATERNIONS, frame, first, end, d_quaternion, sums.seen);
    write(out, SCALES, frame, first, end, d_scale, sums.seen);
    write(out, OPACITIES, frame, first, end, d_opacity, sums.seen);
    for (int64_t i = first; out.offsets && i < end; i++) {
        for (int k = 0; k < 2; k++) {
            out.offsets[(frame * scene.count + i) * 2 + k] = sums.seen[i - first] ? d_centre[k][i - first] : 0;
        }
    }
}

void backward(const Scene& scene, State& state, const Pictures& pictures, const Pictures& upstream, const Gradients& out) {
    Pool& pool = Pool::get();
    const int threads = int(scene.threads);
    const int64_t tiles = scene.tiles(), pixels = scene.width * scene.height;
    state.gradients.resize(state.frame_pairs[scene.frames]);
    pool.run(scene.frames * tiles, threads, [&](int64_t job) {
        const int64_t frame = job / tiles, tile = job % tiles;
        const int64_t* starts = state.tile_starts.data() + frame * (tiles + 1);
        auto planes_of = [&](const Pictures& p, const float* (&planes)[5]) {
            for (int c = 0; c < 3; c++) planes[c] = p.rgb + (frame * 3 + c) * pixels;
            planes[3] = p.depth + frame * pixels;
            planes[4] = p.alpha + frame * pixels;
        };
        const float *planes[5], *given[5];
        planes_of(pictures, planes);
        planes_of(upstream, given);
        blend_tile_backward(scene, state.splats.data() + frame * scene.count, state.pairs.data() + starts[tile],
                            starts[tile + 1] - starts[tile], int(tile % scene.tiles_x()), int(tile / scene.tiles_x()),
                            planes, given, state.gradients.data() + state.frame_pairs[frame]);
    });
    const int64_t chunks = (scene.count + CHUNK - 1) / CHUNK;
    pool.run(chunks, threads, [&](int64_t chunk) {  // all frames in one job: summed fields are added in frame order
        for (int64_t frame = 0; frame < scene.frames; frame++) {
            const Camera camera(scene, frame);
            const int64_t end = std::min((chunk + 1) * CHUNK, scene.count);
            for (int64_t i = chunk * CHUNK; i < end; i += LANES) {
                backward_block(scene, camera, state, out, frame, i, std::min(i + LANES, end));
            }
        }
    });
}

}  // namespace

extern "C" {

int32_t splat_interface() { return 1; }  // INTERFACE in cpu/__init__.py: raise both with every change of these functions

const char* splat_isa() { return ISA_NAME; }

// The constants of the method in the order of cpu/__init__.py, so that a test can compare them with the twin's.
void splat_constants(double* out) {
    const double values[] = {TILE, LOW_PASS, NEAR_PLANE, ALPHA_MIN, ALPHA_MAX, TRANSMITTANCE_MIN, FIELD_OF_VIEW_MARGIN,
                             EIGENVALUE_FLOOR, QUATERNION_MIN, SCREEN_MAX};
    std::copy(std::begin(values), std::end(values), out);
}

// Renders and returns a state for splat_backward, to be given to splat_release; null and *error on failure.
State* splat_forward(const Scene* scene, const Pictures* out, int32_t* radii, int32_t* error) {
    try {
        auto state = take_state();
        *error = forward(*scene, *state, *out, radii);
        return *error ? nullptr : state.release();
    } catch (const std::bad_alloc&) {
        *error = NO_MEMORY;
        return nullptr;
    }
}

int32_t splat_backward(State* state, const Scene* scene, const Pictures* pictures, const Pictures* upstream,
                       const Gradients* out) {
    try {
        backward(*scene, *state, *pictures, *upstream, *out);
        return NONE;
    } catch (const std::bad_alloc&) {
        return NO_MEMORY;
    }
}

// The number of (Gaussian, tile) pairs of all frames.
int64_t splat_pairs(const State* state, int64_t frames) { return state->frame_pairs[frames]; }

void splat_release(State* state) {
    std::unique_ptr<State> owned(state);
    std::lock_guard<std::mutex> lock(kept_mutex);
    if (kept_states().size() < KEPT_STATES && owned->bytes() <= KEPT_BYTES) kept_states().push_back(std::move(owned));
}
}
