// The memory of one rasterizer call, from its forward to its backward pass; reused by later calls.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "blend.h"
#include "ellipse.h"
#include "radix_sort.h"

namespace {

// Larger states are freed and not kept for the next call.
constexpr int64_t MAX_IDLE_BYTES = int64_t(512) << 20;
constexpr size_t MAX_IDLE_STATES = 2;

struct State {
    Buffer<Splat> splats;            // [frames, count]
    Buffer<Ellipse> ellipses;        // [frames, count]
    Buffer<SortItem> sorted, spare;  // [frames, count]
    Buffer<SortItem*> order;         // [frames] the one of these two that is sorted
    Buffer<int64_t> drawn;           // [frames] Gaussians in the order
    Buffer<uint32_t> touched;        // [frames, count] tiles of each Gaussian
    Buffer<int64_t> slots;           // [frames, count] first slot of each Gaussian, in its frame
    Buffer<int64_t> frame_pairs;     // [frames + 1] first pair of each frame
    Buffer<uint32_t> positions;   // [frames, parts, tiles] counts, then positions in the tile lists
    Buffer<int64_t> tile_starts;  // [frames, tiles + 1] index of each tile's first pair
    Buffer<Pair> pairs;
    Buffer<PairGradient> gradients;

    int64_t bytes() const {
        return splats.bytes() + ellipses.bytes() + sorted.bytes() + spare.bytes() +
               touched.bytes() + slots.bytes() + positions.bytes() + tile_starts.bytes() +
               pairs.bytes() + gradients.bytes();
    }
};

std::mutex idle_mutex;

// Never destroyed, because Python may release states while it exits.
std::vector<std::unique_ptr<State>>& idle_states() {
    static auto* states = new std::vector<std::unique_ptr<State>>;
    return *states;
}

// Returns an idle state, or a new one.
std::unique_ptr<State> take_state() {
    std::lock_guard<std::mutex> lock(idle_mutex);
    auto& idle = idle_states();
    if (idle.empty()) return std::make_unique<State>();
    auto state = std::move(idle.back());
    idle.pop_back();
    return state;
}

}  // namespace
