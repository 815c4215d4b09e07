// A rig's calibration (calib.json of docs/data.md) and what a graph is told of it.
#pragma once

#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "json.hpp"

namespace bev {

using Matrix = std::array<std::array<double, 4>, 4>;

inline Matrix identity() {
    Matrix m{};
    for (size_t i = 0; i < 4; ++i) m[i][i] = 1;
    return m;
}

inline Matrix operator*(const Matrix& a, const Matrix& b) {
    Matrix c{};
    for (size_t i = 0; i < 4; ++i)
        for (size_t j = 0; j < 4; ++j)
            for (size_t k = 0; k < 4; ++k) c[i][j] += a[i][k] * b[k][j];
    return c;
}

// Gauss and Jordan, with the largest pivot of each column.
inline Matrix inverse(Matrix a) {
    Matrix b = identity();
    for (size_t column = 0; column < 4; ++column) {
        size_t pivot = column;
        for (size_t row = column + 1; row < 4; ++row)
            if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
        if (std::abs(a[pivot][column]) < 1e-12) throw std::runtime_error("a calibration matrix has no inverse");
        std::swap(a[pivot], a[column]);
        std::swap(b[pivot], b[column]);
        const double scale = 1 / a[column][column];
        for (size_t j = 0; j < 4; ++j) {
            a[column][j] *= scale;
            b[column][j] *= scale;
        }
        for (size_t row = 0; row < 4; ++row) {
            if (row == column) continue;
            const double factor = a[row][column];
            for (size_t j = 0; j < 4; ++j) {
                a[row][j] -= factor * a[column][j];
                b[row][j] -= factor * b[column][j];
            }
        }
    }
    return b;
}

// A list of lists of side 3 or 4; the rest is the identity's.
inline Matrix matrix_of(const Json& rows, size_t side) {
    Matrix m = identity();
    if (rows.list().size() != side) throw std::runtime_error("calib.json: a matrix has not " + std::to_string(side) + " rows");
    for (size_t i = 0; i < side; ++i) {
        if (rows.list()[i].list().size() != side) throw std::runtime_error("calib.json: a matrix is not square");
        for (size_t j = 0; j < side; ++j) m[i][j] = rows.list()[i].list()[j].number();
    }
    return m;
}

// (x, y, z, 1) in the reference frame -> (u d, v d, d, 1), network px times depth in m.
inline Matrix img_from_ref(const Json& calibration, const std::string& camera, bool lidar, const Matrix& network_from_picture) {
    const Json& row = calibration["cameras"][camera];
    const Matrix camera_from_ego = inverse(matrix_of(row["ego_from_camera"], 4));
    Matrix ego_from_ref = identity();
    if (lidar && calibration.has("ego_from_lidar") && !calibration["ego_from_lidar"].is_null())
        ego_from_ref = matrix_of(calibration["ego_from_lidar"], 4);
    return network_from_picture * matrix_of(row["intrinsics"], 3) * camera_from_ego * ego_from_ref;
}

}  // namespace bev
