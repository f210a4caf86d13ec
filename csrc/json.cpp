#include "json.h"

#include <algorithm>
#include <limits>
#include <locale>
#include <sstream>

namespace lc {
namespace {

constexpr int kMaxDepth = 64;

bool is_digit(int c) {
  return c >= '0' && c <= '9';
}

// The number of a text that is one; none where double has no room for it. No locale has a say.
std::optional<double> real_of(std::string_view text) {
  std::istringstream stream{std::string(text)};
  stream.imbue(std::locale::classic());
  double value = 0;
  if (!(stream >> value))
    return std::nullopt;
  return value;
}

// The integer of a text that is one, with a sign or without; none where 64 bits have no room for it.
struct Integer {
  bool negative, fits;
  uint64_t magnitude;

  explicit Integer(std::string_view text) : negative(text[0] == '-'), fits(true), magnitude(0) {
    for (const char c : text.substr(negative)) {
      const uint64_t digit = static_cast<uint64_t>(c - '0');
      fits = fits && magnitude <= (std::numeric_limits<uint64_t>::max() - digit) / 10;
      magnitude = magnitude * 10 + digit;
    }
    fits = fits && !(negative && magnitude > uint64_t{1} << 63);
  }
};

// The bytes of the UTF-8 sequence that begins at `text`, of one to four; 0: it is none.
size_t sequence_bytes(std::string_view text) {
  const auto at = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  const auto follows = [&](size_t i) { return (at(i) & 0xc0) == 0x80; };
  const int first = at(0), second = at(1);
  if (first < 0x80)
    return 1;
  if (first >= 0xc2 && first < 0xe0)
    return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first < 0xf0)  // neither what two bytes hold, nor half a surrogate pair
    return follows(1) && follows(2) && !(first == 0xe0 && second < 0xa0) && !(first == 0xed && second >= 0xa0) ? 3 : 0;
  if (first >= 0xf0 && first < 0xf5)  // neither what three bytes hold, nor beyond U+10FFFF
    return follows(1) && follows(2) && follows(3) && !(first == 0xf0 && second < 0x90) &&
                   !(first == 0xf4 && second >= 0x90)
               ? 4
               : 0;
  return 0;
}

void append_utf8(std::string* to, uint32_t c) {
  const auto put = [&](uint32_t byte) { to->push_back(static_cast<char>(byte)); };
  if (c < 0x80)
    return put(c);
  if (c < 0x800) {
    put(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xe0 | c >> 12);
    } else {
      put(0xf0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3f));
    }
    put(0x80 | (c >> 6 & 0x3f));
  }
  put(0x80 | (c & 0x3f));
}

}  // namespace

std::string quoted(std::string_view text) {
  constexpr size_t kMost = 60;
  const char* hex = "0123456789abcdef";
  std::string shown = "'";
  for (const char c : text) {
    if (shown.size() > kMost)
      return shown + "...'";
    const unsigned char byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f)
      shown += c;
    else
      shown = shown + "\\x" + hex[byte >> 4] + hex[byte & 15];
  }
  return shown + "'";
}

class Json::Parser {
 public:
  explicit Parser(Json* json) : json_(*json), text_(json->text_) {}

  void parse() {
    value(0);
    skip_space();
    if (at_ < text_.size())
      fail("text after the end");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument(what + " at byte " + std::to_string(at_));
  }
  int peek() const { return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : -1; }
  bool take(char c) {
    const bool found = peek() == c;
    at_ += found;
    return found;
  }
  void skip_space() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t') ++at_;
  }
  void word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected)
      fail("expected a value");
    at_ += expected.size();
  }
  uint32_t add(Kind kind, size_t begin = 0, size_t size = 0) {
    const auto index = static_cast<uint32_t>(json_.nodes_.size());
    json_.nodes_.push_back({kind, static_cast<uint32_t>(begin), static_cast<uint32_t>(size), index + 1});
    return index;
  }

  void value(int depth) {
    if (depth > kMaxDepth)
      fail("nested deeper than " + std::to_string(kMaxDepth) + " levels");
    skip_space();
    switch (peek()) {
      case '{':
        return list(Kind::kObject, '}', depth);
      case '[':
        return list(Kind::kArray, ']', depth);
      case '"':
        return string();
      case 't':
        return word("true"), void(add(Kind::kTrue));
      case 'f':
        return word("false"), void(add(Kind::kFalse));
      case 'n':
        return word("null"), void(add(Kind::kNull));
      default:
        return number();
    }
  }

  void list(Kind kind, char closing, int depth) {
    const uint32_t index = add(kind);
    uint32_t count = 0;
    ++at_;
    skip_space();
    if (!take(closing)) {
      do {
        if (kind == Kind::kObject) {
          skip_space();
          if (peek() != '"')
            fail("expected a key in double quotes");
          string();
          skip_space();
          if (!take(':'))
            fail("expected ':'");
        }
        value(depth + 1);
        ++count;
        skip_space();
      } while (take(','));
      if (!take(closing))
        fail(std::string("expected ',' or '") + closing + "'");
    }
    json_.nodes_[index].size = count;
    json_.nodes_[index].end = static_cast<uint32_t>(json_.nodes_.size());
    if (kind == Kind::kObject)
      check_keys(index);
  }

  void check_keys(uint32_t index) const {
    std::vector<std::string_view> keys;
    keys.reserve(json_.nodes_[index].size);
    for (const Value member : Value(&json_, index)) keys.push_back(member.key());
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      throw std::invalid_argument("the key " + quoted(*twice) + " is given twice");
  }

  void number() {
    const size_t begin = at_;
    take('-');
    const size_t first = at_;
    while (is_digit(peek())) ++at_;
    const size_t digits = at_ - first;
    if (digits == 0) {
      at_ = begin;
      fail("expected a value");
    }
    if (digits > 1 && text_[first] == '0')
      fail("a number that begins with 0");
    bool real = false;
    if (take('.')) {
      real = true;
      some_digits();
    }
    int64_t exponent = 0;
    if (peek() == 'e' || peek() == 'E') {
      real = true;
      ++at_;
      const bool negative = take('-');
      if (!negative)
        take('+');
      const size_t power = at_;
      some_digits();
      for (const char c : text_.substr(power, at_ - power))
        exponent = std::min<int64_t>(exponent * 10 + (c - '0'), 1 << 30);
      exponent = negative ? -exponent : exponent;
    }
    const std::string_view all = text_.substr(begin, at_ - begin);
    // Below 10^308 double has room.
    const bool fits = real ? static_cast<int64_t>(digits) + exponent <= 308 || real_of(all) : Integer(all).fits;
    if (!fits) {
      at_ = begin;
      fail("the number " + quoted(all) + " is too large");
    }
    add(real ? Kind::kReal : Kind::kInteger, begin, all.size());
  }
  void some_digits() {
    if (!is_digit(peek()))
      fail("expected a digit");
    while (is_digit(peek())) ++at_;
  }

  void string() {
    std::string& to = json_.strings_;
    const size_t begin = to.size();
    ++at_;
    while (!take('"')) {
      const int c = peek();
      if (c < 0)
        fail("a text without an end");
      if (c < 0x20)
        fail("a control character in a text");
      if (c == '\\') {
        ++at_;
        escape(&to);
        continue;
      }
      const size_t bytes = sequence_bytes(text_.substr(at_));
      if (!bytes)
        fail("a text that is not UTF-8");
      to.append(text_, at_, bytes);
      at_ += bytes;
    }
    add(Kind::kString, begin, to.size() - begin);
  }

  void escape(std::string* to) {
    static constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    if (take('u')) {
      uint32_t c = unit();
      if (c >= 0xd800 && c < 0xe000) {
        const bool pair = c < 0xdc00 && take('\\') && take('u');
        const uint32_t low = pair ? unit() : 0;
        if (low < 0xdc00 || low >= 0xe000)
          fail("half a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
      }
      return append_utf8(to, c);
    }
    const size_t which = at_ < text_.size() ? kNames.find(text_[at_]) : std::string_view::npos;
    if (which == std::string_view::npos)
      fail("an unknown escape");
    ++at_;
    to->push_back(kMeanings[which]);
  }
  uint32_t unit() {
    uint32_t c = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const int digit = peek();
      if (is_digit(digit))
        c = c << 4 | static_cast<uint32_t>(digit - '0');
      else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
        c = c << 4 | static_cast<uint32_t>((digit | 0x20) - 'a' + 10);
      else
        fail("expected four hexadecimal digits");
    }
    return c;
  }

  Json& json_;
  std::string_view text_;
  size_t at_ = 0;
};

Json::Json(std::string_view text) : text_(text) {
  if (text.size() > std::numeric_limits<uint32_t>::max())
    throw std::invalid_argument("text of 4 GB or more");
  strings_.reserve(text.size());
  Parser(this).parse();
}

std::string_view Json::Value::text() const {
  return is(Kind::kString) ? std::string_view(json_->strings_).substr(node().begin, node().size) : std::string_view();
}

std::optional<int64_t> Json::Value::integer() const {
  if (!is(Kind::kInteger))
    return std::nullopt;
  const Integer found(digits());
  if (!found.negative && found.magnitude >> 63)
    return std::nullopt;
  return static_cast<int64_t>(found.negative ? 0 - found.magnitude : found.magnitude);
}

std::optional<double> Json::Value::number() const {
  const std::string_view written = digits();
  return written.empty() ? std::nullopt : real_of(written);
}

std::string_view Json::Value::digits() const {
  return is(Kind::kInteger) || is(Kind::kReal) ? json_->text_.substr(node().begin, node().size) : std::string_view();
}

std::string Json::Value::shown() const {
  static constexpr const char* kNames[] = {"null", "false", "true", "", "", "", "an array", "an object"};
  if (!json_)
    return "nothing";
  if (is(Kind::kString))
    return quoted(text());
  if (const std::string_view written = digits(); !written.empty())
    return std::string(written.substr(0, 40)) + (written.size() > 40 ? "..." : "");
  return kNames[static_cast<size_t>(node().kind)];
}

std::string_view Json::Value::key() const {
  return Value(json_, at_ - 1).text();
}

Json::Value Json::Value::find(std::string_view key) const {
  if (is(Kind::kObject))
    for (const Value member : *this)
      if (member.key() == key)
        return member;
  return {};
}

}  // namespace lc
