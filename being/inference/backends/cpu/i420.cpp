// Conversion of RGB images to I420 (planar YCbCr, chroma at half the resolution), for encoders.

#include <cstdint>

#include "../../../splat/cpu/simd.h"

namespace {

constexpr int SHIFT = 15;  // fraction bits of the matrix
constexpr int32_t HALF = 1 << (SHIFT - 1);

// Pixels that are converted at once: their colours stay in the nearest cache.
constexpr int64_t PART = 512;

// The three colours of one row of pixels, one after the other: the loops over them vectorize.
struct Colours {
    int16_t red[PART], green[PART], blue[PART];

    void read(const uint8_t* rgb, int64_t width) {
        for (int64_t x = 0; x < width; x++) {
            red[x] = rgb[3 * x];
            green[x] = rgb[3 * x + 1];
            blue[x] = rgb[3 * x + 2];
        }
    }
};

void write_luma(const Colours& colours, int64_t width, const int32_t* m, int32_t black,
                uint8_t* out) {
    const int32_t r = m[0], g = m[1], b = m[2], offset = (black << SHIFT) + HALF;
    for (int64_t x = 0; x < width; x++) {
        const int32_t sum = r * colours.red[x] + g * colours.green[x] + b * colours.blue[x];
        out[x] = uint8_t((sum + offset) >> SHIFT);
    }
}

// Both chroma rows of two rows of pixels: the mean colour of each 2 x 2 pixels.
void write_chroma(const Colours& top, const Colours& low, int64_t half, const int32_t* m,
                  uint8_t* cb, uint8_t* cr) {
    constexpr int32_t offset = (128 << (SHIFT + 2)) + (HALF << 2);
    const auto sum = [](const int16_t* a, const int16_t* b, int64_t x) {
        return int32_t(a[2 * x] + a[2 * x + 1] + b[2 * x] + b[2 * x + 1]);
    };
    for (int64_t x = 0; x < half; x++) {
        const int32_t r = sum(top.red, low.red, x);
        const int32_t g = sum(top.green, low.green, x);
        const int32_t b = sum(top.blue, low.blue, x);
        const int32_t blue = (m[3] * r + m[4] * g + m[5] * b + offset) >> (SHIFT + 2);
        const int32_t red = (m[6] * r + m[7] * g + m[8] * b + offset) >> (SHIFT + 2);
        cb[x] = uint8_t(blue > 255 ? 255 : blue);
        cr[x] = uint8_t(red > 255 ? 255 : red);
    }
}

}  // namespace

extern "C" {

// The version of these functions. INTERFACE in i420.py: raise both with every change.
int32_t i420_interface() {
    return 1;
}

const char* i420_isa() {
    return ISA_NAME;
}

// rgb: [height, width, 3]; out: the planes Y [height, width], Cb and Cr [height / 2, width / 2].
// Width and height are even. matrix: rows Y, Cb, Cr, times 2^15; black: luma of black.
void i420_convert(const uint8_t* rgb, int64_t width, int64_t height, const int32_t* matrix,
                  int32_t black, uint8_t* out) {
    const int64_t half = width / 2;
    uint8_t* cb = out + width * height;
    uint8_t* cr = cb + half * (height / 2);
    Colours top, low;
    for (int64_t y = 0; y < height; y += 2) {
        for (int64_t x = 0; x < width; x += PART) {
            const int64_t count = width - x < PART ? width - x : PART;
            top.read(rgb + 3 * (width * y + x), count);
            low.read(rgb + 3 * (width * (y + 1) + x), count);
            write_luma(top, count, matrix, black, out + width * y + x);
            write_luma(low, count, matrix, black, out + width * (y + 1) + x);
            const int64_t at = half * (y / 2) + x / 2;
            write_chroma(top, low, count / 2, matrix, cb + at, cr + at);
        }
    }
}
}
