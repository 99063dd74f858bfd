// A float vector as wide as the machine's registers, and its operations beyond + - * /.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#    include <immintrin.h>
#elif defined(__aarch64__)
#    include <arm_neon.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#    define LANES 16
#    define ISA_NAME "AVX-512"
#elif defined(__AVX2__)
#    define LANES 8
#    define ISA_NAME "AVX2"
#elif defined(__SSE2__)
#    define LANES 4
#    define ISA_NAME "SSE2"
#elif defined(__aarch64__)
#    define LANES 4
#    define ISA_NAME "NEON"
#else
#    define LANES 4
#    define ISA_NAME "generic"
#endif

#define INLINE inline __attribute__((always_inline))

typedef float vfloat __attribute__((vector_size(LANES * 4)));
typedef int32_t vint __attribute__((vector_size(LANES * 4)));

// A vector with x in every lane.
INLINE vfloat broadcast(float x) {
    return x - vfloat{};
}

INLINE vfloat load(const float* p) {
    vfloat v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store(float* p, vfloat v) {
    std::memcpy(p, &v, sizeof v);
}

// Lane masks: predicate registers on AVX-512, all-ones lanes elsewhere.
#if LANES == 16
typedef __mmask16 vmask;
// Used with zero-masked intrinsics: GCC 12 warns that the others read undefined registers.
constexpr __mmask16 ALL = 0xffff;
INLINE vmask less(vfloat a, vfloat b) {
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
}
INLINE vmask at_least(vfloat a, vfloat b) {
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
}
INLINE vfloat select(vmask m, vfloat a, vfloat b) {
    return (vfloat)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a);
}
INLINE bool any(vmask m) {
    return m != 0;
}
INLINE vmask both(vmask a, vmask b) {
    return a & b;
}
#else
typedef vint vmask;
INLINE vmask less(vfloat a, vfloat b) {
    return a < b;
}
INLINE vmask at_least(vfloat a, vfloat b) {
    return a >= b;
}
INLINE vfloat select(vmask m, vfloat a, vfloat b) {
    return m ? a : b;
}
INLINE vmask both(vmask a, vmask b) {
    return a & b;
}
INLINE bool any(vmask m) {
#    if LANES == 8
    return _mm256_movemask_ps((__m256)m) != 0;
#    elif defined(__SSE2__)
    return _mm_movemask_ps((__m128)m) != 0;
#    else
    return (m[0] | m[1] | m[2] | m[3]) != 0;
#    endif
}
#endif

INLINE vfloat vmin(vfloat a, vfloat b) {
    return select(less(a, b), a, b);
}
INLINE vfloat vmax(vfloat a, vfloat b) {
    return select(less(a, b), b, a);
}
INLINE vfloat zero_unless(vmask m, vfloat a) {
    return select(m, a, vfloat{});
}

INLINE vfloat vsqrt(vfloat x) {
#if LANES == 16
    return (vfloat)_mm512_maskz_sqrt_ps(ALL, (__m512)x);
#elif LANES == 8
    return (vfloat)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (vfloat)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
    return (vfloat)vsqrtq_f32((float32x4_t)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

// 1 / x to about 1 ulp. On AVX-512 it takes one Newton step, several times faster than a division.
INLINE vfloat reciprocal(vfloat x) {
#if LANES == 16
    vfloat r = (vfloat)_mm512_maskz_rcp14_ps(ALL, (__m512)x);
    return r + r * (1.0f - x * r);
#else
    return 1.0f / x;
#endif
}

// 2^-x for x in [-126, 126], relative error about 1e-7. A minimax polynomial of degree 5 gives the
// part in [-1/2, 1/2]; the whole part is added to the exponent's bits.
INLINE vfloat exp2_negative(vfloat x) {
    // 1.5 * 2^23: adding it rounds to a whole number, which then stands in the low bits.
    const float magic = 12582912.0f;
    vfloat shifted = magic - x;
    vfloat rest = x + (shifted - magic);
    vfloat y = -0.0013276468f * rest + 0.009675542f;
    y = y * rest - 0.055507135f;
    y = y * rest + 0.2402212f;
    y = y * rest - 0.69314694f;
    y = y * rest + 1.0000001f;
    return (vfloat)((vint)y + ((vint)shifted << 23));
}

// The sum of all lanes.
INLINE float sum(vfloat v) {
#if LANES >= 8
    __m256 parts[LANES / 8];
    std::memcpy(parts, &v, sizeof v);
    __m256 half = parts[0];
    if (LANES > 8) half = _mm256_add_ps(half, parts[LANES / 8 - 1]);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
#else
    return (v[0] + v[1]) + (v[2] + v[3]);
#endif
}
