// A small strict JSON parser for text that nobody vouches for: RFC 8259 without what readers disagree on. Keys are
// given once, integers fit 64 bits, other numbers are finite in double, text is UTF-8, nesting is bounded. Takes 16
// bytes for each value and one for each byte of text.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace lc {

// Text in quotes for a message: printable ASCII, cut where it is long.
std::string quoted(std::string_view text);

class Json {
 public:
  enum class Kind : uint32_t { kNull, kFalse, kTrue, kInteger, kReal, kString, kArray, kObject };
  class Value;

  // The text must outlive this. Throws std::invalid_argument that says what is wrong, and at which byte.
  explicit Json(std::string_view text);
  inline Value root() const;

 private:
  class Parser;
  struct Node {
    Kind kind;
    uint32_t begin, size;  // of a string in strings_, of a number in text_; size: the members of an array or object
    uint32_t end;          // the node after this one and all inside it
  };
  std::string_view text_;
  std::string strings_;
  std::vector<Node> nodes_;  // those of an object: a string before each value
};

// A value, or (false) none.
class Json::Value {
 public:
  Value() = default;
  explicit operator bool() const { return json_; }
  bool is(Kind kind) const { return json_ && node().kind == kind; }
  std::string_view text() const;           // a string, unescaped; "" of anything else
  std::optional<int64_t> integer() const;  // an integer that fits
  std::optional<double> number() const;    // an integer or a real number
  std::string_view digits() const;         // a number, as it is written; "" of anything else
  std::string shown() const;               // for a message: what it is, in short
  std::string_view key() const;            // of a member of an object
  size_t size() const { return is(Kind::kArray) || is(Kind::kObject) ? node().size : 0; }
  Value find(std::string_view key) const;  // the member of an object, or none

  // The members of an array or an object, in their order.
  class Iterator;
  inline Iterator begin() const;
  inline Iterator end() const;

 private:
  friend class Json;
  Value(const Json* json, uint32_t at) : json_(json), at_(at) {}
  const Node& node() const { return json_->nodes_[at_]; }
  uint32_t step() const { return is(Kind::kObject); }  // nodes before the value of a member

  const Json* json_ = nullptr;
  uint32_t at_ = 0;
};

class Json::Value::Iterator {
 public:
  Iterator(Value at, uint32_t step) : at_(at), step_(step) {}
  Value operator*() const { return at_; }
  Iterator& operator++() {
    at_.at_ = at_.node().end + step_;
    return *this;
  }
  bool operator!=(const Iterator& other) const { return at_.at_ != other.at_.at_; }

 private:
  Value at_;
  uint32_t step_;
};

inline Json::Value Json::root() const {
  return Value(this, 0);
}
inline Json::Value::Iterator Json::Value::begin() const {
  return {size() ? Value(json_, at_ + 1 + step()) : *this, step()};
}
inline Json::Value::Iterator Json::Value::end() const {
  return {size() ? Value(json_, node().end + step()) : *this, step()};
}

}  // namespace lc
