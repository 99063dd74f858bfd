// The tile lists of a frame: for every tile, the Gaussians that meet it, in depth order.
#pragma once

#include "radix_sort.h"
#include "screen_shape.h"
#include "state.h"

namespace {

// Parts of a frame's sorted list. Each part is counted, and later listed, by one job.
constexpr int64_t MAX_PARTS = 16;

int64_t part_count(const Scene& scene) {
    return std::min<int64_t>(MAX_PARTS, 1 + scene.count / 2048);
}

// Sorts one frame's drawn Gaussians by depth (equal depths by number) and gives each its slots.
// Returns the number of pairs.
int64_t sort_frame(const Scene& scene, State& state, int64_t frame) {
    const int64_t base = frame * scene.count;
    SortItem* items = state.sorted.data() + base;
    int64_t drawn = 0, pairs = 0;
    for (int64_t i = 0; i < scene.count; i++) {
        state.slots[base + i] = pairs;
        if (uint32_t touched = state.touched[base + i]) {
            pairs += touched;
            // Depths are positive, so their bits have the same order as the numbers.
            uint32_t key;
            std::memcpy(&key, &state.splats[base + i].depth, 4);
            items[drawn++] = {key, uint32_t(i)};
        }
    }
    state.order[frame] = radix_sort(items, state.spare.data() + base, drawn);
    state.drawn[frame] = drawn;
    return pairs;
}

// Calls visit(ellipse, id) for the Gaussians of one part of a frame's depth order.
template <class Visit>
void for_each_in_part(const Scene& scene, const State& state, int64_t frame, int64_t part,
                      Visit&& visit) {
    const int64_t parts = part_count(scene), drawn = state.drawn[frame];
    const Ellipse* ellipses = state.ellipses.data() + frame * scene.count;
    const SortItem* order = state.order[frame];
    for (int64_t i = drawn * part / parts, end = drawn * (part + 1) / parts; i < end; i++) {
        if (i + 8 < end) __builtin_prefetch(&ellipses[order[i + 8].id]);
        visit(ellipses[order[i].id], order[i].id);
    }
}

// Counts the pairs of one part in every tile.
void count_part(const Scene& scene, State& state, int64_t frame, int64_t part) {
    const int64_t width = scene.tiles_x();
    uint32_t* counts = state.positions.data() + (frame * part_count(scene) + part) * scene.tiles();
    std::fill(counts, counts + scene.tiles(), 0u);
    for_each_in_part(scene, state, frame, part, [&](const Ellipse& e, uint32_t) {
        for_each_tile(e, [&](int x, int y) { counts[y * width + x]++; });
    });
}

// Turns the counts of one frame's parts into the positions at which each part writes its pairs.
void assign_list_positions(const Scene& scene, State& state, int64_t frame) {
    const int64_t parts = part_count(scene), tiles = scene.tiles();
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

// Writes the pairs of one part into the tile lists.
void list_part(const Scene& scene, State& state, int64_t frame, int64_t part) {
    const int64_t width = scene.tiles_x();
    uint32_t* positions =
        state.positions.data() + (frame * part_count(scene) + part) * scene.tiles();
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

// Makes the buffers large enough for the scene. The pairs come later, when they are counted.
void resize_buffers(const Scene& scene, State& state) {
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
    state.positions.resize(scene.frames * part_count(scene) * scene.tiles());
    state.tile_starts.resize(scene.frames * (scene.tiles() + 1));
}

}  // namespace
