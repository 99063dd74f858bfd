// A stable radix sort of numbered items.
#pragma once

#include <algorithm>
#include <cstdint>

struct SortItem {
    uint32_t key, id;
};

// Sorts `items` by key, stably, 11 bits a pass. `other` is memory for as many items. Returns the
// one of the two arrays that holds the result.
inline SortItem* radix_sort(SortItem* items, SortItem* other, int64_t count) {
    constexpr int BITS = 11, BUCKETS = 1 << BITS;
    static thread_local uint32_t histogram[3][BUCKETS];
    std::fill(&histogram[0][0], &histogram[0][0] + 3 * BUCKETS, 0u);

    for (int64_t i = 0; i < count; i++) {
        for (int pass = 0; pass < 3; pass++)
            histogram[pass][items[i].key >> (BITS * pass) & (BUCKETS - 1)]++;
    }

    for (int pass = 0; pass < 3; pass++) {
        uint32_t* bucket = histogram[pass];
        int shift = BITS * pass;
        // All items have the same digit: the pass would change nothing.
        if (count && bucket[items[0].key >> shift & (BUCKETS - 1)] == uint32_t(count)) continue;

        uint32_t start = 0;
        for (int i = 0; i < BUCKETS; i++) {
            uint32_t size = bucket[i];
            bucket[i] = start;
            start += size;
        }
        for (int64_t i = 0; i < count; i++)
            other[bucket[items[i].key >> shift & (BUCKETS - 1)]++] = items[i];
        std::swap(items, other);
    }
    return items;
}
