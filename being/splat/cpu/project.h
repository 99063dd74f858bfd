// EWA projection (Zwicker et al. 2001), spherical harmonics, and their gradients, in vectors.
// being/splat/torch_rasterizer.py has the same formulas in a short form.
#pragma once

#include <cmath>

#include "scene.h"
#include "simd.h"

// The camera of one frame.
struct Camera {
    float r[3][3], t[3], centre[3];
    float focal, limit_x, limit_y, mid_x, mid_y;

    Camera(const Scene& scene, int64_t frame) {
        const float* m = scene.world_to_camera + frame * scene.stride[WORLD_TO_CAMERA];
        focal = scene.focal[frame * scene.stride[FOCAL]];
        for (int i = 0; i < 3; i++) {
            for (int j = 0; j < 3; j++) r[i][j] = m[4 * i + j];
            t[i] = m[4 * i + 3];
        }
        for (int j = 0; j < 3; j++) centre[j] = -(r[0][j] * t[0] + r[1][j] * t[1] + r[2][j] * t[2]);
        limit_x = FIELD_OF_VIEW_MARGIN * float(scene.width) / (2 * focal);
        limit_y = FIELD_OF_VIEW_MARGIN * float(scene.height) / (2 * focal);
        mid_x = float(scene.width - 1) / 2;
        mid_y = float(scene.height - 1) / 2;
    }
};

// Loads `width` floats of each of the Gaussians first, first + 1, ... as vectors; past the end, the
// last Gaussian is repeated.
template <int width>
INLINE void gather(const float* base, int64_t first, int64_t count, vfloat (&out)[width]) {
    alignas(64) float columns[width][LANES];
    for (int lane = 0; lane < LANES; lane++) {
        const float* p = base + (first + lane < count ? first + lane : count - 1) * width;
        for (int i = 0; i < width; i++) columns[i][lane] = p[i];
    }
    for (int i = 0; i < width; i++) out[i] = load(columns[i]);
}

// The projection of LANES Gaussians into one camera, with the values that its gradient needs.
struct Geometry {
    vfloat mean[3], quaternion[4], scale[3];
    vfloat length;                  // of the quaternion, before it is normalised
    vfloat z, inverse_z, slope[2];  // view space: depth, x/z and y/z
    vfloat clamped[2];              // slopes as used in the Jacobian
    vfloat rotation[3][3];          // of the Gaussian
    vfloat jacobian[2][3];          // d(pixel) / d(world)
    vfloat axes[2][3];              // jacobian * rotation
    vfloat scaled[2][3];            // axes times scales: covariance = scaled scaled^T
    vfloat x, y, xx, xy, yy, determinant;

    Geometry() = default;

    INLINE Geometry(const Scene& scene, const Camera& camera, int64_t frame, int64_t first) {
        gather(scene.means + frame * scene.stride[MEANS], first, scene.count, mean);
        gather(scene.quaternions + frame * scene.stride[QUATERNIONS], first, scene.count,
               quaternion);
        gather(scene.scales + frame * scene.stride[SCALES], first, scene.count, scale);
        project(camera);
        if (scene.offsets) {
            vfloat offset[2];
            gather(scene.offsets + frame * scene.count * 2, first, scene.count, offset);
            x += offset[0];
            y += offset[1];
        }
    }

    // Computes all other members from `mean`, `quaternion` and `scale`.
    INLINE void project(const Camera& camera) {
        // Centre on the screen.
        vfloat view[3];
        for (int i = 0; i < 3; i++) {
            view[i] = camera.r[i][0] * mean[0] + camera.r[i][1] * mean[1] +
                      camera.r[i][2] * mean[2] + camera.t[i];
        }
        z = view[2];
        inverse_z = 1.0f / z;
        slope[0] = view[0] * inverse_z;
        slope[1] = view[1] * inverse_z;
        clamped[0] = vmax(vmin(slope[0], broadcast(camera.limit_x)), broadcast(-camera.limit_x));
        clamped[1] = vmax(vmin(slope[1], broadcast(camera.limit_y)), broadcast(-camera.limit_y));
        x = camera.focal * slope[0] + camera.mid_x;
        y = camera.focal * slope[1] + camera.mid_y;

        // The Jacobian times the scaled axes of the Gaussian.
        set_rotation();
        vfloat magnification = camera.focal * inverse_z;
        for (int a = 0; a < 2; a++) {
            for (int j = 0; j < 3; j++) {
                jacobian[a][j] = magnification * (camera.r[a][j] - clamped[a] * camera.r[2][j]);
            }
            for (int k = 0; k < 3; k++) {
                axes[a][k] = jacobian[a][0] * rotation[0][k] + jacobian[a][1] * rotation[1][k] +
                             jacobian[a][2] * rotation[2][k];
                scaled[a][k] = axes[a][k] * scale[k];
            }
        }

        // Covariance and determinant.
        xx =
            scaled[0][0] * scaled[0][0] + scaled[0][1] * scaled[0][1] + scaled[0][2] * scaled[0][2];
        xy =
            scaled[0][0] * scaled[1][0] + scaled[0][1] * scaled[1][1] + scaled[0][2] * scaled[1][2];
        yy =
            scaled[1][0] * scaled[1][0] + scaled[1][1] * scaled[1][1] + scaled[1][2] * scaled[1][2];
        vfloat a = scaled[0][1] * scaled[1][2] - scaled[0][2] * scaled[1][1];
        vfloat b = scaled[0][2] * scaled[1][0] - scaled[0][0] * scaled[1][2];
        vfloat c = scaled[0][0] * scaled[1][1] - scaled[0][1] * scaled[1][0];
        // Cauchy-Binet: thin Gaussians lose no digits, as they would in xx * yy - xy * xy.
        determinant = (a * a + b * b + c * c) + LOW_PASS * (xx + yy) + LOW_PASS * LOW_PASS;
        xx += LOW_PASS;
        yy += LOW_PASS;
    }

    // Normalises the quaternion and computes its rotation matrix.
    INLINE void set_rotation() {
        vfloat* q = quaternion;
        length = vsqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
        for (int i = 0; i < 4; i++) q[i] /= length;
        vfloat w = q[0], x = q[1], y = q[2], z = q[3];
        rotation[0][0] = 1 - 2 * (y * y + z * z);
        rotation[0][1] = 2 * (x * y - w * z);
        rotation[0][2] = 2 * (x * z + w * y);
        rotation[1][0] = 2 * (x * y + w * z);
        rotation[1][1] = 1 - 2 * (x * x + z * z);
        rotation[1][2] = 2 * (y * z - w * x);
        rotation[2][0] = 2 * (x * z - w * y);
        rotation[2][1] = 2 * (y * z + w * x);
        rotation[2][2] = 1 - 2 * (x * x + y * y);
    }

    // Computes the gradients of mean, scale and quaternion from those of centre (x, y), covariance
    // (xx, yy, and xy counted once for each of the two equal entries) and depth.
    INLINE void backward(const Camera& camera, vfloat d_x, vfloat d_y, vfloat d_xx, vfloat d_xy,
                         vfloat d_yy, vfloat d_z, vfloat (&d_mean)[3], vfloat (&d_scale)[3],
                         vfloat (&d_quaternion)[4]) const {
        // From the covariance to scales and axes.
        vfloat d_axes[2][3], d_rotation[3][3], d_magnified = {}, d_clamped[2] = {};
        for (int k = 0; k < 3; k++) {
            vfloat d0 = 2 * (d_xx * scaled[0][k] + d_xy * scaled[1][k]);
            vfloat d1 = 2 * (d_xy * scaled[0][k] + d_yy * scaled[1][k]);
            d_scale[k] = d0 * axes[0][k] + d1 * axes[1][k];
            d_axes[0][k] = d0 * scale[k];
            d_axes[1][k] = d1 * scale[k];
        }

        // From the axes to the rotation and the Jacobian.
        vfloat magnification = camera.focal * inverse_z;
        for (int j = 0; j < 3; j++) {
            for (int k = 0; k < 3; k++) {
                d_rotation[j][k] = jacobian[0][j] * d_axes[0][k] + jacobian[1][j] * d_axes[1][k];
            }
            for (int a = 0; a < 2; a++) {
                vfloat d = d_axes[a][0] * rotation[j][0] + d_axes[a][1] * rotation[j][1] +
                           d_axes[a][2] * rotation[j][2];
                d_magnified += d * (camera.r[a][j] - clamped[a] * camera.r[2][j]);
                d_clamped[a] -= d * magnification * camera.r[2][j];
            }
        }

        // From the Jacobian and the centre to view space, then to the mean.
        const float limit[2] = {camera.limit_x, camera.limit_y};
        vfloat d_view[3] = {camera.focal * d_x, camera.focal * d_y,
                            d_z - d_magnified * magnification * inverse_z};
        for (int a = 0; a < 2; a++) {
            vmask inside = both(at_least(broadcast(limit[a]), slope[a]),
                                at_least(slope[a], broadcast(-limit[a])));
            d_view[a] = (d_view[a] + zero_unless(inside, d_clamped[a])) * inverse_z;
            d_view[2] -= d_view[a] * slope[a];
        }
        for (int j = 0; j < 3; j++) {
            d_mean[j] = camera.r[0][j] * d_view[0] + camera.r[1][j] * d_view[1] +
                        camera.r[2][j] * d_view[2];
        }
        rotate_backward(d_rotation, d_quaternion);
    }

    // Computes the gradient of the quaternion from that of its rotation matrix.
    INLINE void rotate_backward(const vfloat (&d)[3][3], vfloat (&out)[4]) const {
        vfloat w = quaternion[0], x = quaternion[1], y = quaternion[2], z = quaternion[3];
        vfloat n[4];
        n[0] = 2 * (x * (d[2][1] - d[1][2]) + y * (d[0][2] - d[2][0]) + z * (d[1][0] - d[0][1]));
        n[1] = 2 * (w * (d[2][1] - d[1][2]) + y * (d[0][1] + d[1][0]) + z * (d[0][2] + d[2][0]) -
                    2 * x * (d[1][1] + d[2][2]));
        n[2] = 2 * (w * (d[0][2] - d[2][0]) + x * (d[0][1] + d[1][0]) + z * (d[1][2] + d[2][1]) -
                    2 * y * (d[0][0] + d[2][2]));
        n[3] = 2 * (w * (d[1][0] - d[0][1]) + x * (d[0][2] + d[2][0]) + y * (d[1][2] + d[2][1]) -
                    2 * z * (d[0][0] + d[1][1]));
        vfloat along = n[0] * w + n[1] * x + n[2] * y + n[3] * z;
        for (int i = 0; i < 4; i++) out[i] = (n[i] - quaternion[i] * along) / length;
    }
};

constexpr float SH_C0 = 0.28209479177387814f, SH_C1 = 0.4886025119029199f;
constexpr float SH_C2[5] = {1.0925484305920792f, -1.0925484305920792f, 0.31539156525252005f,
                            -1.0925484305920792f, 0.5462742152960396f};
constexpr float SH_C3[7] = {-0.5900435899266435f, 2.890611442640554f,   -0.4570457994644658f,
                            0.3731763325901154f,  -0.4570457994644658f, 1.445305721320277f,
                            -0.5900435899266435f};

// The viewing directions of LANES Gaussians and the spherical harmonics in these directions.
struct Harmonics {
    vfloat direction[3], distance;
    vfloat basis[16];

    INLINE Harmonics(const vfloat (&mean)[3], const Camera& camera, int degree) {
        for (int i = 0; i < 3; i++) direction[i] = mean[i] - camera.centre[i];
        distance = vsqrt(direction[0] * direction[0] + direction[1] * direction[1] +
                         direction[2] * direction[2]);
        for (int i = 0; i < 3; i++) direction[i] /= distance;
        vfloat x = direction[0], y = direction[1], z = direction[2];
        basis[0] = broadcast(SH_C0);
        if (degree < 1) return;
        basis[1] = -SH_C1 * y;
        basis[2] = SH_C1 * z;
        basis[3] = -SH_C1 * x;
        if (degree < 2) return;
        vfloat xx = x * x, yy = y * y, zz = z * z;
        basis[4] = SH_C2[0] * x * y;
        basis[5] = SH_C2[1] * y * z;
        basis[6] = SH_C2[2] * (2 * zz - xx - yy);
        basis[7] = SH_C2[3] * x * z;
        basis[8] = SH_C2[4] * (xx - yy);
        if (degree < 3) return;
        basis[9] = SH_C3[0] * y * (3 * xx - yy);
        basis[10] = SH_C3[1] * x * y * z;
        basis[11] = SH_C3[2] * y * (4 * zz - xx - yy);
        basis[12] = SH_C3[3] * z * (2 * zz - 3 * xx - 3 * yy);
        basis[13] = SH_C3[4] * x * (4 * zz - xx - yy);
        basis[14] = SH_C3[5] * z * (xx - yy);
        basis[15] = SH_C3[6] * x * (xx - 3 * yy);
    }

    // Adds to d_mean, through the directions, the gradient of the sum over k of h[k] * basis[k].
    INLINE void backward(const vfloat (&h)[16], int degree, vfloat (&d_mean)[3]) const {
        if (degree < 1) return;
        vfloat x = direction[0], y = direction[1], z = direction[2];
        vfloat dx = -SH_C1 * h[3], dy = -SH_C1 * h[1], dz = SH_C1 * h[2];
        if (degree > 1) {
            dx += SH_C2[0] * y * h[4] - 2 * SH_C2[2] * x * h[6] + SH_C2[3] * z * h[7] +
                  2 * SH_C2[4] * x * h[8];
            dy += SH_C2[0] * x * h[4] + SH_C2[1] * z * h[5] - 2 * SH_C2[2] * y * h[6] -
                  2 * SH_C2[4] * y * h[8];
            dz += SH_C2[1] * y * h[5] + 4 * SH_C2[2] * z * h[6] + SH_C2[3] * x * h[7];
        }
        if (degree > 2) {
            vfloat xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
            dx += 6 * SH_C3[0] * xy * h[9] + SH_C3[1] * yz * h[10] - 2 * SH_C3[2] * xy * h[11] -
                  6 * SH_C3[3] * xz * h[12] + SH_C3[4] * (4 * zz - 3 * xx - yy) * h[13] +
                  2 * SH_C3[5] * xz * h[14] + 3 * SH_C3[6] * (xx - yy) * h[15];
            dy += 3 * SH_C3[0] * (xx - yy) * h[9] + SH_C3[1] * xz * h[10] +
                  SH_C3[2] * (4 * zz - xx - 3 * yy) * h[11] - 6 * SH_C3[3] * yz * h[12] -
                  2 * SH_C3[4] * xy * h[13] - 2 * SH_C3[5] * yz * h[14] - 6 * SH_C3[6] * xy * h[15];
            dz += SH_C3[1] * xy * h[10] + 8 * SH_C3[2] * yz * h[11] +
                  3 * SH_C3[3] * (2 * zz - xx - yy) * h[12] + 8 * SH_C3[4] * xz * h[13] +
                  SH_C3[5] * (xx - yy) * h[14];
        }
        vfloat along = dx * x + dy * y + dz * z;
        d_mean[0] += (dx - x * along) / distance;
        d_mean[1] += (dy - y * along) / distance;
        d_mean[2] += (dz - z * along) / distance;
    }
};
