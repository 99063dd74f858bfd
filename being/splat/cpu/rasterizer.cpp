// The native rasterizer: stages of a batch, forward and backward, and its C functions for Python.
//
// Forward: project all Gaussians; sort those on screen by depth; list for every tile its Gaussians
// in that order; blend. Backward: go through every tile's list again and write one gradient for
// each (Gaussian, tile) pair; add these up for each Gaussian; go back through the projection. Every
// stage is split into jobs whose results do not depend on the thread, so results are equal to the
// bit for any number of threads.

#include <limits>
#include <memory>
#include <mutex>

#include "blend.h"
#include "gradients.h"
#include "screen_shape.h"
#include "state.h"
#include "thread_pool.h"
#include "tile_lists.h"

namespace {

constexpr int64_t CHUNK = 512;  // Gaussians of one job of the projection

enum Error { NONE, NO_MEMORY, TOO_MANY_PAIRS };

// Evaluates the colours of Gaussians [first, end) of one frame.
void evaluate_colours(const Scene& scene, const Harmonics& harmonics, int64_t frame, int64_t first,
                      int64_t end, Splat* splats) {
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
        // A NaN stays a NaN; such a Gaussian is not drawn.
        splats[i].colour[0] = r < 0 ? 0 : r;
        splats[i].colour[1] = g < 0 ? 0 : g;
        splats[i].colour[2] = b < 0 ? 0 : b;
    }
}

// Projects Gaussians [first, end) of one frame, end - first <= LANES.
void project_block(const Scene& scene, const Camera& camera, State& state, int64_t frame,
                   int64_t first, int64_t end, int32_t* radii) {
    const Geometry g(scene, camera, frame, first);
    const Harmonics harmonics(g.mean, camera, int(scene.degree));
    Splat* splats = state.splats.data() + frame * scene.count;
    Ellipse* ellipses = state.ellipses.data() + frame * scene.count;
    evaluate_colours(scene, harmonics, frame, first, end, splats);
    const ScreenShape shape(g);

    for (int64_t i = first; i < end; i++) {
        const int lane = int(i - first);
        const float opacity = scene.opacities[frame * scene.stride[OPACITIES] + i];
        Splat& s = splats[i];
        s.x = g.x[lane], s.y = g.y[lane], s.depth = g.z[lane], s.opacity = opacity;
        s.a = shape.a[lane], s.b = shape.b[lane], s.lean = shape.lean_x[lane];
        const bool good = is_drawable(g, shape, lane) && finite(opacity) && finite(s.colour[0]) &&
                          finite(s.colour[1]) && finite(s.colour[2]);

        // Count the tiles that its ellipse meets.
        Ellipse& e = ellipses[i];
        radii[i] = good ? screen_rectangle(scene, g, lane, e) : 0;
        uint32_t touched = 0;
        if (radii[i] && opacity >= ALPHA_MIN) {
            shape.outline(g, lane, opacity, e);
            for_each_tile(e, [&](int, int) { touched++; });
        }
        state.touched[frame * scene.count + i] = touched;
    }
}

Error forward(const Scene& scene, State& state, const Images& out, int32_t* radii) {
    ThreadPool& pool = ThreadPool::get();
    const int threads = int(scene.threads);
    const int64_t chunks = (scene.count + CHUNK - 1) / CHUNK, parts = part_count(scene),
                  tiles = scene.tiles();
    resize_buffers(scene, state);

    // Project.
    pool.run(scene.frames * chunks, threads, [&](int64_t job) {
        const int64_t frame = job / chunks, first = job % chunks * CHUNK,
                      end = std::min(first + CHUNK, scene.count);
        const Camera camera(scene, frame);
        for (int64_t i = first; i < end; i += LANES) {
            project_block(scene, camera, state, frame, i, std::min(i + LANES, end),
                          radii + frame * scene.count);
        }
    });

    // Sort each frame by depth, and number the pairs of all frames.
    pool.run(scene.frames, threads, [&](int64_t frame) {
        state.frame_pairs[frame + 1] = sort_frame(scene, state, frame);
    });
    state.frame_pairs[0] = 0;
    for (int64_t frame = 0; frame < scene.frames; frame++) {
        if (state.frame_pairs[frame + 1] > std::numeric_limits<uint32_t>::max())
            return TOO_MANY_PAIRS;
        state.frame_pairs[frame + 1] += state.frame_pairs[frame];
    }
    state.pairs.resize(state.frame_pairs[scene.frames]);

    // List the Gaussians of every tile.
    pool.run(scene.frames * parts, threads,
             [&](int64_t job) { count_part(scene, state, job / parts, job % parts); });
    pool.run(scene.frames, threads,
             [&](int64_t frame) { assign_list_positions(scene, state, frame); });
    pool.run(scene.frames * parts, threads,
             [&](int64_t job) { list_part(scene, state, job / parts, job % parts); });

    // Blend.
    pool.run(scene.frames * tiles, threads, [&](int64_t job) {
        const int64_t frame = job / tiles, tile = job % tiles, pixels = scene.width * scene.height;
        const int64_t* starts = state.tile_starts.data() + frame * (tiles + 1);
        float* rgb = out.rgb + frame * 3 * pixels;
        float* const planes[5] = {rgb, rgb + pixels, rgb + 2 * pixels, out.depth + frame * pixels,
                                  out.alpha + frame * pixels};
        blend_tile(scene, state.splats.data() + frame * scene.count,
                   state.pairs.data() + starts[tile], starts[tile + 1] - starts[tile],
                   int(tile % scene.tiles_x()), int(tile / scene.tiles_x()), planes);
    });
    return NONE;
}

void backward(const Scene& scene, State& state, const Images& images, const Images& upstream,
              const Gradients& out) {
    ThreadPool& pool = ThreadPool::get();
    const int threads = int(scene.threads);
    const int64_t tiles = scene.tiles(), pixels = scene.width * scene.height;
    state.gradients.resize(state.frame_pairs[scene.frames]);

    // One gradient for every pair.
    pool.run(scene.frames * tiles, threads, [&](int64_t job) {
        const int64_t frame = job / tiles, tile = job % tiles;
        const int64_t* starts = state.tile_starts.data() + frame * (tiles + 1);
        auto planes_of = [&](const Images& p, const float*(&planes)[5]) {
            for (int c = 0; c < 3; c++) planes[c] = p.rgb + (frame * 3 + c) * pixels;
            planes[3] = p.depth + frame * pixels;
            planes[4] = p.alpha + frame * pixels;
        };
        const float *planes[5], *d_planes[5];
        planes_of(images, planes);
        planes_of(upstream, d_planes);
        blend_tile_backward(scene, state.splats.data() + frame * scene.count,
                            state.pairs.data() + starts[tile], starts[tile + 1] - starts[tile],
                            int(tile % scene.tiles_x()), int(tile / scene.tiles_x()), planes,
                            d_planes, state.gradients.data() + state.frame_pairs[frame]);
    });

    // The gradients of the Gaussians. A job takes all frames, so that fields that the frames share
    // are added in the order of the frames.
    const int64_t chunks = (scene.count + CHUNK - 1) / CHUNK;
    pool.run(chunks, threads, [&](int64_t chunk) {
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

// Version of these functions, INTERFACE in cpu/__init__.py: raise both with every change.
int32_t splat_interface() {
    return 1;
}

// The instruction set of this library.
const char* splat_isa() {
    return ISA_NAME;
}

// The constants of the method in the order of cpu/__init__.py. A test compares them with those of
// the torch rasterizer.
void splat_constants(double* out) {
    const double values[] = {
        TILE,           LOW_PASS,          NEAR_PLANE,           ALPHA_MIN,
        ALPHA_MAX,      TRANSMITTANCE_MIN, FIELD_OF_VIEW_MARGIN, EIGENVALUE_FLOOR,
        QUATERNION_MIN, SCREEN_MAX};
    std::copy(std::begin(values), std::end(values), out);
}

// Renders. Returns the state for splat_backward, which splat_release frees; null and *error on
// failure.
State* splat_forward(const Scene* scene, const Images* out, int32_t* radii, int32_t* error) {
    try {
        auto state = take_state();
        *error = forward(*scene, *state, *out, radii);
        return *error ? nullptr : state.release();
    } catch (const std::bad_alloc&) {
        *error = NO_MEMORY;
        return nullptr;
    }
}

// Writes the gradients of a call to `out`; returns an error code.
int32_t splat_backward(State* state, const Scene* scene, const Images* images,
                       const Images* upstream, const Gradients* out) {
    try {
        backward(*scene, *state, *images, *upstream, *out);
        return NONE;
    } catch (const std::bad_alloc&) {
        return NO_MEMORY;
    }
}

// The number of (Gaussian, tile) pairs of all frames.
int64_t splat_pairs(const State* state, int64_t frames) {
    return state->frame_pairs[frames];
}

// Frees a state, or keeps its memory for a later call.
void splat_release(State* state) {
    std::unique_ptr<State> owned(state);
    std::lock_guard<std::mutex> lock(idle_mutex);
    if (idle_states().size() < MAX_IDLE_STATES && owned->bytes() <= MAX_IDLE_BYTES)
        idle_states().push_back(std::move(owned));
}
}
