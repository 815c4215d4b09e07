// Detects with an exported graph by onnxruntime alone: bev_detect GRAPH.onnx CALIB.json PICTURE.ppm [PICTURE.ppm ...]
//
// One picture a camera, in the graph's order. Prints one box a line, best first:
// class score x y z length width height yaw vx vy (reference frame; m, rad, m/s).
// Runs graphs that are baked, or whose calibration inputs are img_from_ref and ref_from_img (DETR3D, PETR); others are
// exported with --bake. Detectors with a memory: see tools/run_onnx.py.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <numeric>
#include <sstream>

#include "geometry.hpp"
#include "json.hpp"
#include "picture.hpp"

namespace {

using bev::Json;
using bev::Matrix;

struct Candidates {
    size_t count = 0;
    const float *boxes = nullptr, *score = nullptr, *evidence = nullptr;
    const int64_t* label = nullptr;
    const bool *valid = nullptr, *seen = nullptr;
};

Json description(Ort::Session& session) {
    Ort::AllocatorWithDefaultOptions allocator;
    const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated("bevstack", allocator);
    if (!text) throw std::runtime_error("the file is not a graph of bevstack: it has no description");
    return Json::parse(text.get());
}

Json read_json(const std::string& path) {
    std::ifstream in(path);
    if (!in) throw std::runtime_error(path + " cannot be read");
    std::stringstream text;
    text << in.rdbuf();
    return Json::parse(text.str());
}

std::vector<float> as_floats(const std::vector<Matrix>& matrices) {
    std::vector<float> values;
    for (const Matrix& matrix : matrices)
        for (const auto& row : matrix)
            for (double value : row) values.push_back(static_cast<float>(value));
    return values;
}

// Graphs of queries suppress nothing; centre heads drop what is near a better box of its class.
std::vector<size_t> finish(const Candidates& found, const Json& settings, std::vector<float>& score) {
    std::vector<size_t> order;
    for (size_t i = 0; i < found.count; ++i)
        if (found.valid[i]) order.push_back(i);
    const std::string& kind = settings["kind"].text();
    if (kind == "query") return order;
    if (kind != "center") throw std::runtime_error("graphs of kind '" + kind + "' are finished by the Python library");
    const auto better = [&](size_t a, size_t b) { return score[a] > score[b]; };
    std::stable_sort(order.begin(), order.end(), better);
    std::vector<size_t> kept;
    const auto most = static_cast<size_t>(settings["max_boxes"].number());
    for (size_t i : order) {
        const bool near = std::any_of(kept.begin(), kept.end(), [&](size_t j) {
            const float dx = found.boxes[9 * i] - found.boxes[9 * j], dy = found.boxes[9 * i + 1] - found.boxes[9 * j + 1];
            const auto label = static_cast<size_t>(found.label[j]);
            return found.label[i] == found.label[j] &&
                   std::sqrt(dx * dx + dy * dy) <= static_cast<float>(settings["radius_m"].list().at(label).number());
        });
        if (!near) kept.push_back(i);
    }
    kept.resize(std::min(kept.size(), most));
    const double share = settings["evidence"].number();
    if (share != 0) {
        if (!found.seen || !found.evidence) throw std::runtime_error("the graph gives no evidence of its images");
        for (size_t i : kept)
            if (found.seen[i])
                score[i] = static_cast<float>(std::pow(score[i], 1 - share) * std::pow(found.evidence[i], share));
        std::stable_sort(kept.begin(), kept.end(), better);
    }
    return kept;
}

void print_boxes(const Candidates& found, const std::vector<size_t>& kept, const std::vector<float>& score, const Json& more) {
    for (size_t i : kept) {
        const auto label = static_cast<size_t>(found.label[i]);
        const bool named = more.has("classes") && !more["classes"].is_null();
        const std::string name = named ? more["classes"].list().at(label).text() : std::to_string(label);
        std::printf("%s %.9g", name.c_str(), static_cast<double>(score[i]));
        for (size_t k = 0; k < 9; ++k) std::printf(" %.9g", static_cast<double>(found.boxes[9 * i + k]));
        std::printf("\n");
    }
}

template <typename T>
Ort::Value tensor(std::vector<T>& values, const std::vector<int64_t>& shape) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    return Ort::Value::CreateTensor<T>(memory, values.data(), values.size(), shape.data(), shape.size());
}

Candidates candidates(const std::vector<std::string>& names, const std::vector<Ort::Value>& values) {
    Candidates found;
    for (size_t i = 0; i < names.size(); ++i) {
        if (names[i] == "boxes") found.boxes = values[i].GetTensorData<float>();
        if (names[i] == "score") found.score = values[i].GetTensorData<float>();
        if (names[i] == "evidence") found.evidence = values[i].GetTensorData<float>();
        if (names[i] == "label") found.label = values[i].GetTensorData<int64_t>();
        if (names[i] == "valid") found.valid = values[i].GetTensorData<bool>();
        if (names[i] == "seen") found.seen = values[i].GetTensorData<bool>();
        if (names[i] == "score") found.count = values[i].GetTensorTypeAndShapeInfo().GetElementCount();
    }
    if (!found.boxes || !found.score || !found.label || !found.valid)
        throw std::runtime_error("the graph gives no boxes: export it with --outputs boxes");
    return found;
}

void run(const std::string& graph, const std::string& calibration_file, const std::vector<std::string>& pictures) {
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "bev_detect");
    Ort::Session session(env, graph.c_str(), Ort::SessionOptions{});
    const Json facts = description(session);
    if (facts["calibration"].is_null()) throw std::runtime_error("a graph of single pictures");
    const auto& cameras = facts["calibration"]["camera_names"].list();
    const auto& size = facts["calibration"]["image_size_px"].list();
    const auto height = static_cast<size_t>(size.at(0).number()), width = static_cast<size_t>(size.at(1).number());
    if (pictures.size() != cameras.size())
        throw std::runtime_error(std::to_string(pictures.size()) + " pictures for " + std::to_string(cameras.size()) + " cameras");
    const Json calibration = read_json(calibration_file);
    const bool lidar = facts["finish"]["frame"].text() == "lidar";

    std::vector<uint8_t> images(cameras.size() * 3 * height * width);
    std::vector<Matrix> to_image, from_image;
    for (size_t i = 0; i < cameras.size(); ++i) {
        const Matrix homography =
            bev::network_image(bev::read_ppm(pictures[i]), height, width, images.data() + i * 3 * height * width);
        to_image.push_back(bev::img_from_ref(calibration, cameras[i].text(), lidar, homography));
        from_image.push_back(bev::inverse(to_image.back()));
    }
    std::vector<float> to_values = as_floats(to_image), from_values = as_floats(from_image);
    const auto count = static_cast<int64_t>(cameras.size());

    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<std::string> inputs, outputs;
    std::vector<Ort::Value> given;
    for (size_t i = 0; i < session.GetInputCount(); ++i) {
        inputs.emplace_back(session.GetInputNameAllocated(i, allocator).get());
        if (inputs.back() == "images")
            given.push_back(tensor(images, {1, count, 3, static_cast<int64_t>(height), static_cast<int64_t>(width)}));
        else if (inputs.back() == "img_from_ref")
            given.push_back(tensor(to_values, {1, count, 4, 4}));
        else if (inputs.back() == "ref_from_img")
            given.push_back(tensor(from_values, {1, count, 4, 4}));
        else
            throw std::runtime_error("the graph wants " + inputs.back() + ": export it with --bake");
    }
    for (size_t i = 0; i < session.GetOutputCount(); ++i)
        outputs.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
    std::vector<const char*> input_names, output_names;
    for (const auto& name : inputs) input_names.push_back(name.c_str());
    for (const auto& name : outputs) output_names.push_back(name.c_str());
    const auto values = session.Run(Ort::RunOptions{}, input_names.data(), given.data(), given.size(), output_names.data(), output_names.size());
    const Candidates found = candidates(outputs, values);
    std::vector<float> score(found.score, found.score + found.count);
    print_boxes(found, finish(found, facts["finish"], score), score, facts["more"]);
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 4) {
        std::cerr << "usage: bev_detect GRAPH.onnx CALIB.json PICTURE.ppm [PICTURE.ppm ...]\n";
        return 2;
    }
    try {
        run(arguments[1], arguments[2], {arguments + 3, arguments + count});
    } catch (const std::exception& error) {  // onnxruntime's errors, too
        std::cerr << "error: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
