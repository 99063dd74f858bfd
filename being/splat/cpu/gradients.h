// The gradients of a frame's Gaussians from those of their (Gaussian, tile) pairs, LANES at a time.
#pragma once

#include "project.h"
#include "state.h"

namespace {

// The sums over the tiles of each of LANES Gaussians, always added in the same order.
struct SummedGradients {
    vfloat g = {}, u = {}, v = {}, uu = {}, uv = {}, vv = {}, colour[3] = {}, depth = {};
    bool seen[LANES] = {};

    SummedGradients(const Scene& scene, const State& state, int64_t frame, int64_t first,
                    int64_t end) {
        const PairGradient* pairs = state.gradients.data() + state.frame_pairs[frame];
        for (int64_t i = first; i < end; i++) {
            const uint32_t count = state.touched[frame * scene.count + i];
            const int lane = int(i - first);
            if (!count) continue;
            seen[lane] = true;
            const PairGradient* p = pairs + state.slots[frame * scene.count + i];
            PairGradient total = p[0];
            for (uint32_t k = 1; k < count; k++) {
                total.g += p[k].g, total.u += p[k].u, total.v += p[k].v;
                total.uu += p[k].uu, total.uv += p[k].uv, total.vv += p[k].vv;
                for (int c = 0; c < 3; c++) total.colour[c] += p[k].colour[c];
                total.depth += p[k].depth;
            }
            const Splat& s = state.splats[frame * scene.count + i];
            g[lane] = total.g, u[lane] = total.u, v[lane] = total.v;
            uu[lane] = total.uu, uv[lane] = total.uv, vv[lane] = total.vv,
            depth[lane] = total.depth;
            for (int c = 0; c < 3; c++) colour[c][lane] = s.colour[c] > 0 ? total.colour[c] : 0;
        }
    }
};

// Writes `width` floats for each Gaussian: the value of a seen one, zero for the others. For a
// field that all frames share, later frames are added.
template <int width>
void write(const Gradients& out, Field field, int64_t frame, int64_t first, int64_t end,
           const vfloat (&value)[width], const bool (&seen)[LANES]) {
    if (!out.out[field]) return;
    float* base = out.out[field] + frame * out.stride[field];
    const bool add = frame > 0 && !out.stride[field];
    for (int64_t i = first; i < end; i++) {
        for (int k = 0; k < width; k++) {
            float x = seen[i - first] ? value[k][i - first] : 0;
            base[i * width + k] = add ? base[i * width + k] + x : x;
        }
    }
}

// Writes the gradient of the coefficients; computes h[k] = sum over colours of dL/dcolour *
// coefficient.
void backward_sh(const Scene& scene, const Gradients& out, const Harmonics& harmonics,
                 const SummedGradients& sums, int64_t frame, int64_t first, int64_t end,
                 vfloat (&h)[16]) {
    const int64_t used = (scene.degree + 1) * (scene.degree + 1), row = scene.coefficients * 3;
    const float* sh = scene.sh + frame * scene.stride[SH];
    float* base = out.out[SH] ? out.out[SH] + frame * out.stride[SH] : nullptr;
    const bool add = frame > 0 && !out.stride[SH];
    for (int64_t i = first; i < end; i++) {
        const int lane = int(i - first);
        const float d[3] = {sums.colour[0][lane], sums.colour[1][lane], sums.colour[2][lane]};
        float* to = base ? base + i * row : nullptr;
        if (to && !add) std::fill(to, to + row, 0.0f);
        if (!sums.seen[lane]) continue;
        const float* c = sh + i * row;
        for (int64_t k = 0; k < used; k++) {
            h[k][lane] = d[0] * c[3 * k] + d[1] * c[3 * k + 1] + d[2] * c[3 * k + 2];
            if (!to) continue;
            const float basis = harmonics.basis[k][lane];
            for (int j = 0; j < 3; j++) to[3 * k + j] += basis * d[j];
        }
    }
}

// Writes the gradients of Gaussians [first, end) of one frame, end - first <= LANES.
void backward_block(const Scene& scene, const Camera& camera, const State& state,
                    const Gradients& out, int64_t frame, int64_t first, int64_t end) {
    const SummedGradients sums(scene, state, frame, first, end);
    const Geometry g(scene, camera, frame, first);
    const Harmonics harmonics(g.mean, camera, int(scene.degree));

    // Centre and covariance. With z = W d whitened, in units of powers of e:
    // dL/dcentre = W^T sum(g z), dL/dcovariance = W^T sum(g z z^T) W / 2.
    const vfloat root_yy = vsqrt(g.yy), w00 = root_yy / vsqrt(g.determinant),
                 w01 = -w00 * g.xy / g.yy;
    const vfloat w11 = 1.0f / root_yy;
    const float unit = 1 / ROOT_HALF_LOG2E, square = 1 / HALF_LOG2E;
    const vfloat u = unit * sums.u, v = unit * sums.v;
    const vfloat uu = 0.5f * square * sums.uu, uv = 0.5f * square * sums.uv,
                 vv = 0.5f * square * sums.vv;
    const vfloat d_centre[2] = {w00 * u, w01 * u + w11 * v};
    const vfloat d_xx = w00 * w00 * uu, d_xy = w00 * (w01 * uu + w11 * uv);
    const vfloat d_yy = w01 * w01 * uu + 2 * w01 * w11 * uv + w11 * w11 * vv;

    // Back through the projection and the spherical harmonics.
    vfloat d_mean[3], d_scale[3], d_quaternion[4], h[16] = {}, d_opacity[1];
    g.backward(camera, d_centre[0], d_centre[1], d_xx, d_xy, d_yy, sums.depth, d_mean, d_scale,
               d_quaternion);
    backward_sh(scene, out, harmonics, sums, frame, first, end, h);
    harmonics.backward(h, int(scene.degree), d_mean);

    for (int lane = 0; lane < LANES; lane++) {
        const int64_t i = std::min(first + lane, end - 1);
        d_opacity[0][lane] = sums.g[lane] / scene.opacities[frame * scene.stride[OPACITIES] + i];
    }

    write(out, MEANS, frame, first, end, d_mean, sums.seen);
    write(out, QUATERNIONS, frame, first, end, d_quaternion, sums.seen);
    write(out, SCALES, frame, first, end, d_scale, sums.seen);
    write(out, OPACITIES, frame, first, end, d_opacity, sums.seen);
    for (int64_t i = first; out.offsets && i < end; i++) {
        for (int k = 0; k < 2; k++) {
            out.offsets[(frame * scene.count + i) * 2 + k] =
                sums.seen[i - first] ? d_centre[k][i - first] : 0;
        }
    }
}

}  // namespace
