// The native renderer of a talking head, and its C functions: tokens, cameras and plates to images.
//
// The steps of a frame: fold its tokens into the attention; carry all Gaussians, block by block,
// through the network (or add the bases), the activations and the projection; sort the drawn
// Gaussians by depth; list them for each tile; blend the tiles over the plate. As many whole frames
// as there are threads are rendered side by side, one thread each; each frame left over is rendered
// by all threads.

#include <memory>
#include <stdexcept>

#include "../../../splat/cpu/thread_pool.h"
#include "bases.h"
#include "tile_image.h"

namespace {

constexpr int64_t CHUNK = 2;    // blocks of a job of the deformation
constexpr int64_t PART = 1024;  // smallest number of Gaussians in a part of the depth order
constexpr int64_t MAX_PARTS = 16;
constexpr int64_t MAX_KEPT_BYTES = int64_t(256) << 20;  // of tile lists, between two calls

enum Error { NONE, NO_MEMORY, TOO_MANY_PAIRS };

// Runs body(job) for all jobs on the threads of the pool. A job without memory makes the call fail,
// and not the process.
template <class Body>
void parallel_for(int64_t jobs, int threads, Body&& body) {
    std::atomic<bool> failed{false};
    ThreadPool::get().run(jobs, threads, [&](int64_t job) {
        try {
            body(job);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    });
    if (failed) throw std::bad_alloc();
}

// The arguments of head_render. `FrameBatch` in library.py has the same fields.
//
// By default, frames are rendered from their tokens. With `slots`, they are key frames: they are
// deformed by their tokens and kept in these slots, not rendered. With `before`, they are rendered
// from kept key frames: before + share (after - before).
struct FrameBatch {
    // [count, tokens_per_frame, width], of a head of bases the coefficients [count, 1, bases];
    // [count, 4, 4]
    const float *tokens, *world_to_camera;
    const uint8_t* plates;  // [count, size, size, 3]
    uint8_t* out;           // [count, size, size, 3]
    int64_t count, tokens_per_frame, threads;
    double* seconds;                        // [STAGES] of all frames together
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

// The network, as `HeadImpl` uses it. A deformation has the type of what it computes once a frame
// (`Frame`), and renders blocks.
template <class Format>
class NetworkDeformation {
public:
    typedef std::vector<FoldedTokens> Frame;

    NetworkDeformation(const HeadDescription& d, TensorReader& reader, CanonicalBlocks& canonical) {
        network_.fill(d, reader);
        canonical.fill(d, reader);
    }
    void prepare(const float* tokens, int count, Frame& frame) const {
        network_.fold(tokens, count, frame);
    }
    // Calls body(renderer) on this thread. The renderer has deform_and_project(block, out,
    // sort_items, parts) and deform_key_frame(block, kept, parts).
    template <class Body>
    void with_renderer(const BlockScreen& screen, const Frame& frame, int tokens,
                       Body&& body) const {
        static thread_local Scratch<Format> scratch;
        [[maybe_unused]] const typename Format::ThreadState thread_state;
        scratch.resize(network_.width, std::max(network_.hidden, network_.decoder_width),
                       network_.heads * tokens);
        const BlockRenderer<Format> renderer{screen, network_, frame, tokens, scratch};
        body(renderer);
    }
    int64_t width() const { return network_.width; }

private:
    Network<Format> network_;
};

// Bases, as `HeadImpl` uses them.
template <class Format>
class BasesDeformation {
public:
    typedef std::vector<float> Frame;  // coefficients, padded to whole steps

    BasesDeformation(const HeadDescription& d, TensorReader& reader, CanonicalBlocks& canonical)
        : count_(int(d.bases)) {
        canonical.fill(d, reader);
        bases_.fill(*reader.at++, count_, canonical);
    }
    void prepare(const float* coefficients, int, Frame& frame) const {
        frame.assign(size_t(bases_.steps) * Format::DEPTH, 0.0f);
        std::copy_n(coefficients, count_, frame.begin());
    }
    template <class Body>
    void with_renderer(const BlockScreen& screen, const Frame& frame, int, Body&& body) const {
        const BasesRenderer<Format> renderer{screen, bases_, frame.data()};
        body(renderer);
    }
    int64_t width() const { return count_; }

private:
    BasisBlocks<Format> bases_;
    int count_;
};

// The memory of one frame while it is rendered.
template <class Prepared>
struct FrameState {
    Prepared prepared;
    ScreenGaussians screen;
    Buffer<SortItem> sorted, spare;
    Buffer<uint32_t> positions;      // [parts, tiles] counts, then positions in the tile lists
    Buffer<int64_t> tile_starts;     // [tiles + 1]
    Buffer<TileEntry> entries;       // tile by tile
    std::vector<PartEntries> found;  // [parts]
    int64_t nanoseconds[STAGES] = {};

    // The bytes that depend on how much the Gaussians overlap.
    int64_t bytes() const {
        int64_t sum = entries.bytes();
        for (const PartEntries& part : found)
            sum += int64_t(part.entries.capacity() * sizeof(TileEntry));
        return sum;
    }
};

class Head {
public:
    virtual ~Head() = default;
    virtual void render(const FrameBatch& frames) = 0;
};

template <class Deformation>
class HeadImpl final : public Head {
public:
    typedef FrameState<typename Deformation::Frame> State;

    explicit HeadImpl(const HeadDescription& d) : HeadImpl(d, TensorReader{d.tensors}) {}

    void render(const FrameBatch& frames) override {
        std::lock_guard<std::mutex> turn(turn_);
        const int threads = int(frames.threads);
        if (frames.slots) return deform_key_frames(frames, threads);

        // One state for each frame that is rendered at the same time.
        const int64_t whole = threads > 1 ? frames.count / threads * threads : 0;
        while (int64_t(states_.size()) <
               std::max<int64_t>(1, std::min<int64_t>(frames.count, threads))) {
            states_.push_back(std::make_unique<State>());
        }

        // Whole frames side by side, then the frames left over with all threads. A thread takes the
        // next frame when it is done with one: it need not wait for one that has lost its core.
        idle_.clear();
        for (auto& state : states_) idle_.push_back(state.get());
        parallel_for(whole, threads, [&](int64_t frame) {
            const BorrowedState borrowed(*this);
            render_frame(frames, frame, *borrowed.state, 1);
        });
        collect(frames.seconds, 1e-9 / threads);
        for (int64_t frame = whole; frame < frames.count; frame++)
            render_frame(frames, frame, *states_[0], threads);
        collect(frames.seconds, 1e-9);

        // Free the memory of a frame that needed far more than usual.
        for (auto& state : states_) {
            if (state->bytes() > MAX_KEPT_BYTES) state = std::make_unique<State>();
        }
    }

private:
    HeadImpl(const HeadDescription& d, TensorReader reader)
        : deformation_(d, reader, canonical_), degree_(int(d.degree)), focal_(float(d.focal)),
          size_(d.size) {}

    // A state that no other thread renders with meanwhile. There are as many as threads.
    struct BorrowedState {
        explicit BorrowedState(HeadImpl& head) : head(head) {
            std::lock_guard<std::mutex> lock(head.idle_mutex_);
            state = head.idle_.back();
            head.idle_.pop_back();
        }
        ~BorrowedState() {
            std::lock_guard<std::mutex> lock(head.idle_mutex_);
            head.idle_.push_back(state);
        }
        HeadImpl& head;
        State* state;
    };

    Scene scene_of(const FrameBatch& frames, int64_t frame) const {
        Scene scene{};
        scene.world_to_camera = frames.world_to_camera + 16 * frame;
        scene.focal = &focal_;
        scene.width = scene.height = size_;
        scene.count = canonical_.count;
        return scene;
    }

    void prepare(const FrameBatch& frames, int64_t frame, State& state) const {
        Stopwatch stopwatch;
        deformation_.prepare(frames.tokens + frame * frames.tokens_per_frame * deformation_.width(),
                             int(frames.tokens_per_frame), state.prepared);
        stopwatch.lap(state.nanoseconds[FOLD]);
    }

    // Deforms key frames and keeps their Gaussians.
    void deform_key_frames(const FrameBatch& frames, int threads) {
        if (states_.empty()) states_.push_back(std::make_unique<State>());
        State& state = *states_[0];
        for (int64_t frame = 0; frame < frames.count; frame++) {
            const size_t slot = size_t(frames.slots[frame]);
            if (key_frames_.size() <= slot) key_frames_.resize(slot + 1);
            key_frames_[slot].resize(canonical_.blocks() * CanonicalBlocks::KEY_FRAME_ROWS * BLOCK);
            prepare(frames, frame, state);
            deform_blocks(scene_of(frames, frame), int(frames.tokens_per_frame), state, threads,
                          [&](const auto& renderer, int64_t b, SortItem*, PartTimes& parts) {
                              renderer.deform_key_frame(b, key_frame(int64_t(slot), b), parts);
                              return 0;
                          });
        }
        collect(frames.seconds, 1e-9);
    }

    float* key_frame(int64_t slot, int64_t block) {
        return key_frames_[size_t(slot)].data() + block * CanonicalBlocks::KEY_FRAME_ROWS * BLOCK;
    }
    const float* key_frame(int64_t slot, int64_t block) const {
        return key_frames_[size_t(slot)].data() + block * CanonicalBlocks::KEY_FRAME_ROWS * BLOCK;
    }

    void render_frame(const FrameBatch& frames, int64_t frame, State& state, int threads) const {
        const Scene scene = scene_of(frames, frame);
        if (frames.before) {
            const int64_t before = frames.before[frame], after = frames.after[frame];
            const float share = frames.share[frame];
            deform_blocks(
                scene, 0, state, threads,
                [&](const auto& renderer, int64_t b, SortItem* sort_items, PartTimes& parts) {
                    return renderer.interpolate(b, key_frame(before, b), key_frame(after, b), share,
                                                state.screen, sort_items, parts);
                });
        } else {
            prepare(frames, frame, state);
            deform_blocks(
                scene, int(frames.tokens_per_frame), state, threads,
                [&](const auto& renderer, int64_t b, SortItem* sort_items, PartTimes& parts) {
                    return renderer.deform_and_project(b, state.screen, sort_items, parts);
                });
        }

        // Order and list the drawn Gaussians.
        Stopwatch stopwatch;
        const int64_t drawn = sort(state);
        stopwatch.lap(state.nanoseconds[SORT]);
        build_lists(scene, drawn, state, threads);
        stopwatch.lap(state.nanoseconds[LISTS]);

        // Blend the tiles.
        const int64_t bytes = 3 * size_ * size_;
        parallel_for(scene.tiles(), threads, [&](int64_t tile) {
            const int64_t from = state.tile_starts[tile], to = state.tile_starts[tile + 1];
            render_tile(scene, state.screen.splats.data(), state.entries.data() + from, to - from,
                        int(tile % scene.tiles_x()), int(tile / scene.tiles_x()),
                        frames.plates + frame * bytes, frames.out + frame * bytes);
        });
        stopwatch.lap(state.nanoseconds[BLEND]);
    }

    // Adds the times of all states to `seconds`, and sets them to zero.
    void collect(double* seconds, double unit) {
        for (auto& state : states_) {
            for (int stage = 0; stage < STAGES; stage++) {
                seconds[stage] += unit * double(state->nanoseconds[stage]);
                state->nanoseconds[stage] = 0;
            }
        }
    }

    int64_t chunks() const { return (canonical_.blocks() + CHUNK - 1) / CHUNK; }

    // Calls on_block(renderer, block, sort_items, parts) for every block. It returns how
    // many items it has appended to `sort_items`.
    template <class BlockFunction>
    void deform_blocks(const Scene& scene, int tokens, State& state, int threads,
                       BlockFunction&& on_block) const {
        ScreenGaussians& screen = state.screen;
        screen.splats.resize(canonical_.count);
        screen.ellipses.resize(canonical_.count);
        screen.sort_items.resize(canonical_.blocks() * BLOCK);
        screen.drawn.resize(chunks());

        const Camera camera(scene, 0);
        const BlockScreen block_screen{canonical_, scene, camera, degree_};
        std::atomic<int64_t> spent[5] = {};

        Stopwatch stopwatch;
        int64_t elapsed = 0;
        parallel_for(chunks(), threads, [&](int64_t chunk) {
            PartTimes parts;
            int drawn = 0;
            SortItem* sort_items = screen.sort_items.data() + chunk * CHUNK * BLOCK;
            const int64_t end = std::min((chunk + 1) * CHUNK, canonical_.blocks());
            deformation_.with_renderer(
                block_screen, state.prepared, tokens, [&](const auto& renderer) {
                    for (int64_t b = chunk * CHUNK; b < end; b++)
                        drawn += on_block(renderer, b, sort_items + drawn, parts);
                });
            screen.drawn[chunk] = drawn;
            const int64_t laps[5] = {parts.attention, parts.feed_forward, parts.geometry_heads,
                                     parts.projection, parts.colour_head};
            for (int i = 0; i < 5; i++) spent[i].fetch_add(laps[i]);
        });

        stopwatch.lap(elapsed);
        int64_t total = 1;
        for (auto& part : spent) total += part.load();
        // Divide the wall time among the parts, in proportion to the time of the threads.
        for (int i = 0; i < 5; i++) {
            state.nanoseconds[ATTENTION + i] +=
                int64_t(double(elapsed) * double(spent[i].load()) / double(total));
        }
    }

    // Sorts the drawn Gaussians by depth, equal depths by number, into state.sorted. Returns their
    // number.
    int64_t sort(State& state) const {
        state.sorted.resize(canonical_.count + 1);
        state.spare.resize(canonical_.count + 1);
        uint32_t least = ~0u;
        int64_t drawn = 0;
        for (int64_t chunk = 0; chunk < chunks(); chunk++) {
            const SortItem* sort_items = state.screen.sort_items.data() + chunk * CHUNK * BLOCK;
            for (int i = 0; i < state.screen.drawn[chunk]; i++) {
                state.sorted[drawn++] = sort_items[i];
                least = std::min(least, sort_items[i].key);
            }
        }
        for (int64_t i = 0; i < drawn; i++)
            state.sorted[i].key -= least;  // smaller keys need fewer passes
        if (radix_sort(state.sorted.data(), state.spare.data(), drawn) != state.sorted.data()) {
            std::swap(state.sorted, state.spare);
        }
        return drawn;
    }

    void build_lists(const Scene& scene, int64_t drawn, State& state, int threads) const {
        const int64_t parts = std::min(MAX_PARTS, 1 + drawn / PART), tiles = scene.tiles();
        state.positions.resize(parts * tiles);
        state.tile_starts.resize(tiles + 1);
        if (int64_t(state.found.size()) < parts) state.found.resize(size_t(parts));
        parallel_for(parts, threads, [&](int64_t part) {
            collect_entries(scene, state.screen.ellipses.data(), state.sorted.data(),
                            drawn * part / parts, drawn * (part + 1) / parts,
                            state.found[size_t(part)], state.positions.data() + part * tiles);
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
        parallel_for(parts, threads, [&](int64_t part) {
            const PartEntries& found = state.found[size_t(part)];
            uint32_t* positions = state.positions.data() + part * tiles;
            for (size_t i = 0; i < found.size; i++) {
                state.entries[positions[found.entries[i].tile()]++] = found.entries[i];
            }
        });
    }

    CanonicalBlocks canonical_;  // before the deformation, which fills it
    Deformation deformation_;
    const int degree_;
    const float focal_;
    const int64_t size_;
    std::vector<std::unique_ptr<State>> states_;
    std::vector<State*> idle_;  // of them, those that no thread renders with
    std::mutex idle_mutex_;
    std::vector<Buffer<float>> key_frames_;  // [slots][blocks][KEY_FRAME_ROWS][BLOCK]
    std::mutex turn_;                        // one call at a time: the calls share the states
};

}  // namespace

extern "C" {

// The version of these functions. INTERFACE in library.py: raise both with every change.
int32_t head_interface() {
    return 3;
}

const char* head_isa() {
    return HAS_TILES      ? ISA_NAME " with bfloat16 and tiles"
           : HAS_BFLOAT16 ? ISA_NAME " with bfloat16"
                          : ISA_NAME;
}

int32_t head_has_bfloat16() {
    return HAS_BFLOAT16;
}

// Creates a head, which head_release frees; null when there is no memory left.
Head* head_create(const HeadDescription* description) {
    try {
        if (description->bases) {
            if (description->low_precision)
                return new HeadImpl<BasesDeformation<PairedBases>>(*description);
            return new HeadImpl<BasesDeformation<FloatBases>>(*description);
        }
#if HAS_TILES
        const auto& d = *description;
        const bool fits = Tiled::usable(int(d.width)) && Tiled::usable(int(d.hidden)) &&
                          Tiled::usable(int(d.decoder_width));
        if (d.low_precision && fits) return new HeadImpl<NetworkDeformation<Tiled>>(d);
#endif
#if HAS_BFLOAT16
        if (description->low_precision)
            return new HeadImpl<NetworkDeformation<Bfloat16>>(*description);
#endif
        return new HeadImpl<NetworkDeformation<Float32>>(*description);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

int32_t head_render(Head* head, const FrameBatch* frames) {
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
