// A talking head on the CPU: tokens, cameras and plates of frames to uint8 pictures, and the C
// functions Python calls.
//
// A frame: fold its tokens into the attention; carry all Gaussians, block by block, through the
// network, their activations and the projection; sort the drawn ones by depth; list them for every
// tile; blend the tiles over the plate. As many whole frames as there are threads go side by side,
// one thread each; what is left over shares all threads.

#include <memory>
#include <stdexcept>

#include "../../../splat/cpu/pool.h"
#include "picture.h"

namespace {

constexpr int64_t CHUNK = 2;    // blocks a job of the deformation
constexpr int64_t PART = 1024;  // least Gaussians of a part of the depth order
constexpr int64_t MAX_PARTS = 16;
constexpr int64_t KEPT_BYTES = int64_t(256) << 20;

enum Error { NONE, NO_MEMORY, TOO_MANY_PAIRS };

// Shares the jobs out to the pool's threads; a job that finds no memory fails the call and not the
// process.
template <class Body>
void share(int64_t jobs, int threads, Body&& body) {
    std::atomic<bool> failed{false};
    Pool::get().run(jobs, threads, [&](int64_t job) {
        try {
            body(job);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    });
    if (failed) throw std::bad_alloc();
}

// Mirrored in cpu/__init__.py. Frames are drawn by their tokens; or, with `slots`, deformed by them
// and kept there, not drawn; or, with `before`, drawn as mixtures of frames that were kept: before
// + share (after - before).
struct Frames {
    const float *tokens, *world_to_camera;  // [count, tokens_each, width], [count, 4, 4]
    const uint8_t* plates;                  // [count, size, size, 3]
    uint8_t* out;                           // the same
    int64_t count, tokens_each, threads;
    double* seconds;                        // by STAGES, of all frames together
    const int64_t *slots, *before, *after;  // [count] or null
    const float* share;                     // [count]
};

enum Stage {
    FOLD,
    ATTENTION,
    FEED_FORWARD,
    GEOMETRY_HEADS,
    PROJECTION,
    COLOUR_HEAD,
    SORT,
    LISTS,
    BLEND,
    STAGES
};

// Memory of one frame in the making.
struct State {
    std::vector<Mixing> mixing;
    Placed placed;
    Buffer<Keyed> sorted, spare;
    Buffer<uint32_t> positions;   // [parts, tiles] counts, then places in the tile lists
    Buffer<int64_t> tile_starts;  // [tiles + 1]
    Buffer<Entry> entries;        // tile by tile
    std::vector<Found> found;     // [parts]
    int64_t nanoseconds[STAGES] = {};

    // Of what grows with how much the Gaussians overlap.
    int64_t bytes() const {
        int64_t sum = entries.bytes();
        for (const Found& part : found) sum += int64_t(part.entries.capacity() * sizeof(Entry));
        return sum;
    }
};

class Head {
public:
    virtual ~Head() = default;
    virtual void render(const Frames& frames) = 0;
};

template <class Format>
class HeadIn final : public Head {
public:
    explicit HeadIn(const Description& d)
        : degree_(int(d.degree)), focal_(float(d.focal)), size_(d.size) {
        Reader reader{d.tensors};
        network_.fill(d, reader);
        canonical_.fill(d, reader);
    }

    void render(const Frames& frames) override {
        std::lock_guard<std::mutex> turn(turn_);
        const int threads = int(frames.threads);
        if (frames.slots) return keep(frames, threads);
        const int64_t whole = threads > 1 ? frames.count / threads * threads : 0;
        while (int64_t(states_.size()) <
               std::max<int64_t>(1, std::min<int64_t>(frames.count, threads))) {
            states_.push_back(std::make_unique<State>());
        }
        for (int64_t base = 0; base < whole; base += threads) {
            share(threads, threads,
                  [&](int64_t k) { draw(frames, base + k, *states_[size_t(k)], 1); });
        }
        collect(frames.seconds, 1e-9 / threads);
        for (int64_t frame = whole; frame < frames.count; frame++)
            draw(frames, frame, *states_[0], threads);
        collect(frames.seconds, 1e-9);
        for (auto& state : states_) {  // a frame gone wild takes its memory with it
            if (state->bytes() > KEPT_BYTES) state = std::make_unique<State>();
        }
    }

private:
    Scene scene_of(const Frames& frames, int64_t frame) const {
        Scene scene{};
        scene.world_to_camera = frames.world_to_camera + 16 * frame;
        scene.focal = &focal_;
        scene.width = scene.height = size_;
        scene.count = canonical_.count;
        return scene;
    }

    void fold(const Frames& frames, int64_t frame, State& state) const {
        Clock clock;
        network_.fold(frames.tokens + frame * frames.tokens_each * network_.width,
                      int(frames.tokens_each), state.mixing);
        clock.lap(state.nanoseconds[FOLD]);
    }

    // Deforms the frames and keeps their Gaussians.
    void keep(const Frames& frames, int threads) {
        if (states_.empty()) states_.push_back(std::make_unique<State>());
        State& state = *states_[0];
        for (int64_t frame = 0; frame < frames.count; frame++) {
            const size_t slot = size_t(frames.slots[frame]);
            if (kept_.size() <= slot) kept_.resize(slot + 1);
            kept_[slot].resize(canonical_.blocks() * Canonical::KEPT * BLOCK);
            fold(frames, frame, state);
            place(scene_of(frames, frame), int(frames.tokens_each), state, threads,
                  [&](const Deformer<Format>& deformer, int64_t b, Scratch<Format>& scratch, Keyed*,
                      Parts& parts) {
                      deformer.keep(b, scratch, kept(int64_t(slot), b), parts);
                      return 0;
                  });
        }
        collect(frames.seconds, 1e-9);
    }

    float* kept(int64_t slot, int64_t block) {
        return kept_[size_t(slot)].data() + block * Canonical::KEPT * BLOCK;
    }
    const float* kept(int64_t slot, int64_t block) const {
        return kept_[size_t(slot)].data() + block * Canonical::KEPT * BLOCK;
    }

    void draw(const Frames& frames, int64_t frame, State& state, int threads) const {
        const Scene scene = scene_of(frames, frame);
        if (frames.before) {
            const int64_t before = frames.before[frame], after = frames.after[frame];
            const float share = frames.share[frame];
            place(scene, 0, state, threads,
                  [&](const Deformer<Format>& deformer, int64_t b, Scratch<Format>&, Keyed* keyed,
                      Parts& parts) {
                      return deformer.mix(b, kept(before, b), kept(after, b), share, state.placed,
                                          keyed, parts);
                  });
        } else {
            fold(frames, frame, state);
            place(scene, int(frames.tokens_each), state, threads,
                  [&](const Deformer<Format>& deformer, int64_t b, Scratch<Format>& scratch,
                      Keyed* keyed, Parts& parts) {
                      return deformer.run(b, scratch, state.placed, keyed, parts);
                  });
        }
        Clock clock;
        const int64_t drawn = sort(state);
        clock.lap(state.nanoseconds[SORT]);
        list(scene, drawn, state, threads);
        clock.lap(state.nanoseconds[LISTS]);
        const int64_t bytes = 3 * size_ * size_;
        share(scene.tiles(), threads, [&](int64_t tile) {
            const int64_t from = state.tile_starts[tile], to = state.tile_starts[tile + 1];
            draw_tile(scene, state.placed.marks.data(), state.entries.data() + from, to - from,
                      int(tile % scene.tiles_x()), int(tile / scene.tiles_x()),
                      frames.plates + frame * bytes, frames.out + frame * bytes);
        });
        clock.lap(state.nanoseconds[BLEND]);
    }

    // Adds what the states spent, and starts them anew.
    void collect(double* seconds, double unit) {
        for (auto& state : states_) {
            for (int stage = 0; stage < STAGES; stage++) {
                seconds[stage] += unit * double(state->nanoseconds[stage]);
                state->nanoseconds[stage] = 0;
            }
        }
    }

    int64_t chunks() const { return (canonical_.blocks() + CHUNK - 1) / CHUNK; }

    // Runs each(deformer, block, scratch, keyed, parts) on every block; it gives how many it
    // appends to `keyed`.
    template <class Each>
    void place(const Scene& scene, int tokens, State& state, int threads, Each&& each) const {
        Placed& placed = state.placed;
        placed.marks.resize(canonical_.count);
        placed.ellipses.resize(canonical_.count);
        placed.keyed.resize(canonical_.blocks() * BLOCK);
        placed.drawn.resize(chunks());
        const Camera camera(scene, 0);
        const Deformer<Format> deformer{canonical_, network_, state.mixing, scene,
                                        camera,     tokens,   degree_};
        std::atomic<int64_t> spent[5] = {};
        Clock clock;
        int64_t elapsed = 0;
        share(chunks(), threads, [&](int64_t chunk) {
            static thread_local Scratch<Format> scratch;
            [[maybe_unused]] const typename Format::Session session;
            scratch.resize(network_.width, std::max(network_.hidden, network_.deep),
                           network_.heads * tokens);
            Parts parts;
            int drawn = 0;
            Keyed* keyed = placed.keyed.data() + chunk * CHUNK * BLOCK;
            for (int64_t b = chunk * CHUNK; b < std::min((chunk + 1) * CHUNK, canonical_.blocks());
                 b++) {
                drawn += each(deformer, b, scratch, keyed + drawn, parts);
            }
            placed.drawn[chunk] = drawn;
            const int64_t laps[5] = {parts.attention, parts.feed_forward, parts.geometry_heads,
                                     parts.projection, parts.colour_head};
            for (int i = 0; i < 5; i++) spent[i].fetch_add(laps[i]);
        });
        clock.lap(elapsed);
        int64_t total = 1;
        for (auto& part : spent) total += part.load();
        for (int i = 0; i < 5; i++) {  // of the stage's wall time, as the threads' time is divided
            state.nanoseconds[ATTENTION + i] +=
                int64_t(double(elapsed) * double(spent[i].load()) / double(total));
        }
    }

    // Brings the drawn Gaussians into depth order (equal depths by number), in state.sorted;
    // returns how many.
    int64_t sort(State& state) const {
        state.sorted.resize(canonical_.count + 1);
        state.spare.resize(canonical_.count + 1);
        uint32_t least = ~0u;
        int64_t drawn = 0;
        for (int64_t chunk = 0; chunk < chunks(); chunk++) {
            const Keyed* keyed = state.placed.keyed.data() + chunk * CHUNK * BLOCK;
            for (int i = 0; i < state.placed.drawn[chunk]; i++) {
                state.sorted[drawn++] = keyed[i];
                least = std::min(least, keyed[i].key);
            }
        }
        for (int64_t i = 0; i < drawn; i++)
            state.sorted[i].key -= least;  // fewer bits, so fewer passes
        if (radix_sort(state.sorted.data(), state.spare.data(), drawn) != state.sorted.data()) {
            std::swap(state.sorted, state.spare);
        }
        return drawn;
    }

    void list(const Scene& scene, int64_t drawn, State& state, int threads) const {
        const int64_t parts = std::min(MAX_PARTS, 1 + drawn / PART), tiles = scene.tiles();
        state.positions.resize(parts * tiles);
        state.tile_starts.resize(tiles + 1);
        if (int64_t(state.found.size()) < parts) state.found.resize(size_t(parts));
        share(parts, threads, [&](int64_t part) {
            find(scene, state.placed.ellipses.data(), state.sorted.data(), drawn * part / parts,
                 drawn * (part + 1) / parts, state.found[size_t(part)],
                 state.positions.data() + part * tiles);
        });
        int64_t at = 0;
        for (int64_t tile = 0; tile < tiles; tile++) {
            state.tile_starts[tile] = at;
            for (int64_t part = 0; part < parts; part++) {
                uint32_t& position = state.positions[part * tiles + tile];
                const uint32_t count = position;
                position = uint32_t(at);
                at += count;
            }
        }
        state.tile_starts[tiles] = at;
        if (at > std::numeric_limits<uint32_t>::max()) throw std::length_error("pairs");
        state.entries.resize(at);
        share(parts, threads, [&](int64_t part) {
            const Found& found = state.found[size_t(part)];
            uint32_t* positions = state.positions.data() + part * tiles;
            for (size_t i = 0; i < found.size; i++) {
                state.entries[positions[found.entries[i].tile()]++] = found.entries[i];
            }
        });
    }

    Network<Format> network_;
    Canonical canonical_;
    const int degree_;
    const float focal_;
    const int64_t size_;
    std::vector<std::unique_ptr<State>> states_;
    std::vector<Buffer<float>> kept_;  // [slots][blocks][KEPT][BLOCK]
    std::mutex turn_;                  // one call at a time: the states are the head's
};

}  // namespace

extern "C" {

int32_t head_interface() {
    return 2;
}  // INTERFACE in cpu/__init__.py: raise both with every change of these functions

const char* head_isa() {
    return HAS_TILES      ? ISA_NAME " with bfloat16 and tiles"
           : HAS_BFLOAT16 ? ISA_NAME " with bfloat16"
                          : ISA_NAME;
}

int32_t head_has_bfloat16() {
    return HAS_BFLOAT16;
}

// A head to be given to head_release; null when there is no memory left.
Head* head_create(const Description* description) {
    try {
#if HAS_TILES
        const auto& d = *description;
        const bool fits = Tiled::usable(int(d.width)) && Tiled::usable(int(d.hidden)) &&
                          Tiled::usable(int(d.deep));
        if (d.low_precision && fits) return new HeadIn<Tiled>(d);
#endif
#if HAS_BFLOAT16
        if (description->low_precision) return new HeadIn<Bfloat16>(*description);
#endif
        return new HeadIn<Float32>(*description);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

int32_t head_render(Head* head, const Frames* frames) {
    try {
        std::fill_n(frames->seconds, int(STAGES), 0.0);
        head->render(*frames);
        return NONE;
    } catch (const std::bad_alloc&) {
        return NO_MEMORY;
    } catch (const std::length_error&) {
        return TOO_MANY_PAIRS;
    }
}

void head_release(Head* head) {
    delete head;
}
}
