// The shape of projected Gaussians on the screen: whitening, outline, and the tiles they meet.
#pragma once

#include <limits>

#include "ellipse.h"
#include "project.h"

// The covariances of LANES Gaussians, in the form in which Splat and Ellipse hold them.
struct ScreenShape {
    vfloat root_xx, root_yy, root_det, a, b, lean_x, lean_y;

    INLINE explicit ScreenShape(const Geometry& g) {
        root_xx = vsqrt(g.xx), root_yy = vsqrt(g.yy), root_det = vsqrt(g.determinant);
        a = ROOT_HALF_LOG2E * root_yy / root_det, b = ROOT_HALF_LOG2E / root_yy;
        lean_x = g.xy / g.yy, lean_y = g.xy / g.xx;
    }

    // Fills the ellipse in which alpha reaches 1/255, for an opacity of at least 1/255.
    void outline(const Geometry& g, int lane, float opacity, Ellipse& e) const {
        e.level = std::log2(255.0f * opacity) + 1e-3f;
        const float root = std::sqrt(e.level) / ROOT_HALF_LOG2E;
        const float half_x = root * root_xx[lane], half_y = root * root_yy[lane];
        e.rows = {half_y, lean_y[lane] * half_x, lean_x[lane], 1 / a[lane], b[lane] * b[lane]};
        e.columns = {half_x, lean_x[lane] * half_y, lean_y[lane],
                     root_det[lane] / (ROOT_HALF_LOG2E * root_xx[lane]), HALF_LOG2E / g.xx[lane]};
    }
};

INLINE bool finite(float x) {
    return std::fabs(x) <= std::numeric_limits<float>::max();
}

// Returns whether a Gaussian is in front of the near plane, finite, and has a valid rotation.
INLINE bool is_drawable(const Geometry& g, const ScreenShape& shape, int lane) {
    return g.z[lane] > NEAR_PLANE && g.length[lane] >= QUATERNION_MIN &&
           finite(g.x[lane] + g.y[lane]) && finite(g.z[lane]) && finite(g.determinant[lane]) &&
           finite(g.xx[lane]) && finite(g.yy[lane]) && finite(g.xy[lane]) &&
           finite(shape.a[lane]) && shape.a[lane] > 0;
}

// Fills the ellipse's centre and the rectangle of tiles that the square of the radius meets.
// Returns the radius, or 0 if the square meets no tile.
inline int32_t screen_rectangle(const Scene& scene, const Geometry& g, int lane, Ellipse& e) {
    const float xx = g.xx[lane], yy = g.yy[lane], middle = 0.5f * (xx + yy);
    const float largest =
        middle + std::sqrt(std::max(EIGENVALUE_FLOOR, middle * middle - g.determinant[lane]));
    const float radius = std::ceil(3.0f * std::sqrt(largest));

    e.x = g.x[lane], e.y = g.y[lane];
    e.left = e.top = e.right = e.bottom = 0;
    if (!(radius < SCREEN_MAX && std::fabs(e.x) < SCREEN_MAX && std::fabs(e.y) < SCREEN_MAX))
        return 0;

    auto tile = [](float at, int64_t count) {
        return uint16_t(std::min(std::max(std::floor(at / TILE), 0.0f), float(count)));
    };
    e.left = tile(e.x - radius, scene.tiles_x());
    e.right = tile(e.x + radius + (TILE - 1), scene.tiles_x());
    e.top = tile(e.y - radius, scene.tiles_y());
    e.bottom = tile(e.y + radius + (TILE - 1), scene.tiles_y());
    return e.left < e.right && e.top < e.bottom ? int32_t(radius) : 0;
}
