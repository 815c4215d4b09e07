// Pictures as binary PPM (P6, 8 bits), and the network's image of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "geometry.hpp"

namespace bev {

struct Picture {
    size_t height = 0, width = 0;
    std::vector<uint8_t> rgb;  // row by row, three bytes a pixel
};

inline size_t header_number(std::istream& in, const std::string& path) {
    while (in >> std::ws && in.peek() == '#') in.ignore(1 << 20, '\n');
    size_t value = 0;
    if (!(in >> value)) throw std::runtime_error(path + ": not a PPM file");
    return value;
}

inline Picture read_ppm(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error(path + " cannot be read");
    char magic[2] = {0, 0};
    in.read(magic, 2);
    if (magic[0] != 'P' || magic[1] != '6') throw std::runtime_error(path + ": not a PPM file (P6)");
    Picture picture;
    picture.width = header_number(in, path);
    picture.height = header_number(in, path);
    const size_t highest = header_number(in, path);
    if (!picture.width || !picture.height || picture.width > 1 << 16 || picture.height > 1 << 16 || highest != 255)
        throw std::runtime_error(path + ": sizes up to 65536 px and 8 bits are read");
    in.get();
    picture.rgb.resize(3 * picture.width * picture.height);
    in.read(reinterpret_cast<char*>(picture.rgb.data()), static_cast<std::streamsize>(picture.rgb.size()));
    if (!in) throw std::runtime_error(path + ": the file ends before the picture does");
    return picture;
}

// Along one axis: each of the new pixels is the mean of the part of the old ones that it covers. Values of a pixel lie
// together (step), pixels of the axis after each other, and so often (blocks).
inline std::vector<double> box_filter(
    const std::vector<double>& from, size_t blocks, size_t old_size, size_t new_size, size_t step) {
    std::vector<double> to(blocks * new_size * step);
    const double factor = static_cast<double>(old_size) / static_cast<double>(new_size);
    for (size_t block = 0; block < blocks; ++block)
        for (size_t i = 0; i < new_size; ++i) {
            const double low = static_cast<double>(i) * factor, high = low + factor;
            for (size_t j = static_cast<size_t>(low); j < old_size && static_cast<double>(j) < high - 1e-9; ++j) {
                const double share = std::min(high, static_cast<double>(j) + 1) - std::max(low, static_cast<double>(j));
                for (size_t k = 0; k < step; ++k)
                    to[(block * new_size + i) * step + k] += share / factor * from[(block * old_size + j) * step + k];
            }
        }
    return to;
}

// Scaled to the network's width, lower rows kept: ImageTransform(size, crop_y=1.0, method="area"). Writes (3, H, W) and
// returns the homography from picture px to network px.
inline Matrix network_image(const Picture& picture, size_t height, size_t width, uint8_t* planes) {
    const double factor = static_cast<double>(width) / static_cast<double>(picture.width);
    const auto scaled = static_cast<size_t>(std::floor(static_cast<double>(picture.height) * factor + 1e-6));
    if (scaled < height || factor > 1)
        throw std::runtime_error("pictures must not be smaller than the network's image");
    std::vector<double> values(picture.rgb.begin(), picture.rgb.end());
    values = box_filter(values, picture.height, picture.width, width, 3);
    values = box_filter(values, 1, picture.height, scaled, 3 * width);
    const size_t top = scaled - height;
    for (size_t y = 0; y < height; ++y)
        for (size_t x = 0; x < width; ++x)
            for (size_t c = 0; c < 3; ++c) {
                const double value = values[((top + y) * width + x) * 3 + c];
                planes[(c * height + y) * width + x] = static_cast<uint8_t>(std::lrint(std::clamp(value, 0.0, 255.0)));
            }
    Matrix homography = identity();
    homography[0][0] = factor;
    homography[1][1] = static_cast<double>(scaled) / static_cast<double>(picture.height);
    homography[1][2] = -static_cast<double>(top);
    return homography;
}

}  // namespace bev
