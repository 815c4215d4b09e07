// A reader of JSON, as much of it as the descriptions of graphs and calib.json need.
#pragma once

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace bev {

class Json {
public:
    enum class Kind { null, boolean, number, text, list, object };

    static Json parse(const std::string& text) {
        Json value;
        size_t at = 0;
        value = read(text, at, 0);
        skip(text, at);
        if (at != text.size()) fail(at, "text after the end");
        return value;
    }

    bool is_null() const { return kind_ == Kind::null; }
    double number() const { return want(Kind::number, "a number").number_; }
    bool boolean() const { return want(Kind::boolean, "a boolean").number_ != 0; }
    const std::string& text() const { return want(Kind::text, "a string").text_; }
    const std::vector<Json>& list() const { return want(Kind::list, "a list").list_; }
    const std::map<std::string, Json>& object() const { return want(Kind::object, "an object").object_; }

    bool has(const std::string& key) const { return kind_ == Kind::object && object_.count(key) != 0; }
    const Json& operator[](const std::string& key) const {
        const auto found = object().find(key);
        if (found == object_.end()) throw std::runtime_error("JSON: key '" + key + "' is missing");
        return found->second;
    }

private:
    Kind kind_ = Kind::null;
    double number_ = 0;
    std::string text_;
    std::vector<Json> list_;
    std::map<std::string, Json> object_;

    const Json& want(Kind kind, const char* what) const {
        if (kind_ != kind) throw std::runtime_error(std::string("JSON: expected ") + what);
        return *this;
    }

    [[noreturn]] static void fail(size_t at, const std::string& what) {
        throw std::runtime_error("JSON: " + what + " at byte " + std::to_string(at));
    }

    static void skip(const std::string& s, size_t& at) {
        while (at < s.size() && (s[at] == ' ' || s[at] == '\n' || s[at] == '\t' || s[at] == '\r')) ++at;
    }

    static bool take(const std::string& s, size_t& at, const std::string& word) {
        if (s.compare(at, word.size(), word) != 0) return false;
        at += word.size();
        return true;
    }

    static Json read(const std::string& s, size_t& at, int depth) {
        if (depth > 64) fail(at, "nested too deeply");
        skip(s, at);
        Json value;
        if (at >= s.size()) fail(at, "unexpected end");
        if (s[at] == '{') {
            read_object(s, at, depth, value);
        } else if (s[at] == '[') {
            read_list(s, at, depth, value);
        } else if (s[at] == '"') {
            value.kind_ = Kind::text;
            value.text_ = read_text(s, at);
        } else if (take(s, at, "true") || take(s, at, "false")) {
            value.kind_ = Kind::boolean;
            value.number_ = s[at - 2] == 'u' ? 1 : 0;  // tr-u-e, fal-s-e
        } else if (!take(s, at, "null")) {
            const char* begin = s.c_str() + at;
            char* end = nullptr;
            value.kind_ = Kind::number;
            value.number_ = std::strtod(begin, &end);
            if (end == begin) fail(at, "not a value");
            at += static_cast<size_t>(end - begin);
        }
        return value;
    }

    static void read_object(const std::string& s, size_t& at, int depth, Json& value) {
        value.kind_ = Kind::object;
        skip(s, ++at);
        if (at < s.size() && s[at] == '}') { ++at; return; }
        while (true) {
            skip(s, at);
            if (at >= s.size() || s[at] != '"') fail(at, "expected a key");
            const std::string key = read_text(s, at);
            skip(s, at);
            if (at >= s.size() || s[at++] != ':') fail(at, "expected ':'");
            value.object_[key] = read(s, at, depth + 1);
            if (!more(s, at, '}')) return;
        }
    }

    static void read_list(const std::string& s, size_t& at, int depth, Json& value) {
        value.kind_ = Kind::list;
        skip(s, ++at);
        if (at < s.size() && s[at] == ']') { ++at; return; }
        do {
            value.list_.push_back(read(s, at, depth + 1));
        } while (more(s, at, ']'));
    }

    static bool more(const std::string& s, size_t& at, char end) {
        skip(s, at);
        if (at < s.size() && s[at] == ',') { ++at; return true; }
        if (at < s.size() && s[at] == end) { ++at; return false; }
        fail(at, std::string("expected ',' or '") + end + "'");
    }

    static std::string read_text(const std::string& s, size_t& at) {
        std::string text;
        for (++at; at < s.size() && s[at] != '"'; ++at) {
            if (s[at] != '\\') { text += s[at]; continue; }
            if (++at >= s.size()) break;
            if (s[at] == 'u') {
                if (at + 4 >= s.size()) break;
                append_utf8(text, std::stoul(s.substr(at + 1, 4), nullptr, 16));
                at += 4;
            } else {
                const std::string plain = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
                const size_t which = plain.find(s[at]);
                if (which == std::string::npos) fail(at, "unknown escape");
                text += meant[which];
            }
        }
        if (at >= s.size()) fail(at, "unterminated string");
        ++at;
        return text;
    }

    static void append_utf8(std::string& text, unsigned long code) {
        if (code < 0x80) {
            text += static_cast<char>(code);
        } else if (code < 0x800) {
            text += static_cast<char>(0xC0 | (code >> 6));
            text += static_cast<char>(0x80 | (code & 0x3F));
        } else {
            text += static_cast<char>(0xE0 | (code >> 12));
            text += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
            text += static_cast<char>(0x80 | (code & 0x3F));
        }
    }
};

}  // namespace bev
