// What one call of the rasterizer holds from its forward to its backward pass, kept for the next
// call.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "bin.h"
#include "blend.h"

namespace {

constexpr int64_t KEPT_BYTES = int64_t(512)
                               << 20;  // larger states are freed and not kept for the next call
constexpr size_t KEPT_STATES = 2;

struct State {
    Buffer<Splat> splats;         // [frames, count]
    Buffer<Ellipse> ellipses;     // [frames, count]
    Buffer<Keyed> sorted, spare;  // [frames, count]
    Buffer<Keyed*> order;         // [frames] the sorted one of these two
    Buffer<int64_t> drawn;        // [frames] Gaussians in the order
    Buffer<uint32_t> touched;     // [frames, count] tiles of each Gaussian
    Buffer<int64_t>
        slots;  // [frames, count] first slot of each Gaussian, from the frame's first pair
    Buffer<int64_t> frame_pairs;  // [frames + 1] first pair of each frame
    Buffer<uint32_t> positions;   // [frames, parts, tiles] counts, then places in the tile lists
    Buffer<int64_t> tile_starts;  // [frames, tiles + 1] in all pairs
    Buffer<Pair> pairs;
    Buffer<PairGradient> gradients;

    int64_t bytes() const {
        return splats.bytes() + ellipses.bytes() + sorted.bytes() + spare.bytes() +
               touched.bytes() + slots.bytes() + positions.bytes() + tile_starts.bytes() +
               pairs.bytes() + gradients.bytes();
    }
};

std::mutex kept_mutex;
std::vector<std::unique_ptr<State>>&
kept_states() {  // never destroyed: Python may release states while it exits
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

}  // namespace
