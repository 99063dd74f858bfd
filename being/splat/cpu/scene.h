// The arguments of a call from Python, the constants of the method, and uninitialised buffers.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

// The same values as in being/conventions.py and being/splat/torch_rasterizer.py; a test compares.
constexpr int TILE = 16;
constexpr float LOW_PASS = 0.3f, NEAR_PLANE = 0.2f, ALPHA_MIN = 1.0f / 255.0f, ALPHA_MAX = 0.99f;
constexpr float TRANSMITTANCE_MIN = 1e-4f, FIELD_OF_VIEW_MARGIN = 1.3f, EIGENVALUE_FLOOR = 0.1f;
constexpr float QUATERNION_MIN = 1e-10f, SCREEN_MAX = 1e9f;

enum Field { MEANS, QUATERNIONS, SCALES, OPACITIES, SH, WORLD_TO_CAMERA, FOCAL, FIELDS };

// One call. cpu/__init__.py declares the same fields in the same order, here and below.
struct Scene {
    const float *means, *quaternions, *scales, *opacities, *sh, *world_to_camera, *focal;
    const float* offsets;  // [frames, count, 2] or null
    // Floats from one frame to the next of the seven fields above; 0 for a field that all frames
    // share.
    int64_t stride[FIELDS];
    int64_t frames, count, coefficients, degree, width, height, threads;

    int64_t tiles_x() const { return (width + TILE - 1) / TILE; }
    int64_t tiles_y() const { return (height + TILE - 1) / TILE; }
    int64_t tiles() const { return tiles_x() * tiles_y(); }
};

// Images [frames, 3 | 1 | 1, height, width], or their gradients.
struct Images {
    float *rgb, *alpha, *depth;
};

// Gradients of the first five fields of Scene and of the offsets; null where not wanted.
struct Gradients {
    float* out[5];
    int64_t stride[5];  // 0 where the frames are summed
    float* offsets;
};

// Memory for `size` items, aligned to a cache line. It grows and never shrinks; resizing loses its
// content.
template <class T>
class Buffer {
public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(capacity_, other.capacity_);
        return *this;
    }
    ~Buffer() { std::free(data_); }

    void resize(int64_t size) {
        if (size <= capacity_) return;
        std::free(data_);
        data_ = nullptr;
        capacity_ = 0;
        void* memory = nullptr;
        int64_t wanted = size + size / 8;
        if (posix_memalign(&memory, 64, size_t(wanted) * sizeof(T))) throw std::bad_alloc();
        data_ = static_cast<T*>(memory);
        capacity_ = wanted;
    }
    T* data() const { return data_; }
    T& operator[](int64_t i) const { return data_[i]; }
    int64_t bytes() const { return capacity_ * int64_t(sizeof(T)); }

private:
    T* data_ = nullptr;
    int64_t capacity_ = 0;
};
