#include "mutate.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "crc32.h"

namespace fuzz {
namespace {

constexpr size_t kMost = 1 << 16;  // bytes of a file

const char* const kNumbers[] = {"0",
                                "-0",
                                "1",
                                "-1",
                                "2",
                                "3",
                                "7",
                                "8",
                                "9",
                                "16",
                                "17",
                                "255",
                                "65535",
                                "65536",
                                "2147483647",
                                "2147483648",
                                "4294967295",
                                "4294967296",
                                "1073741824",
                                "9007199254740993",
                                "4611686018427387904",
                                "9223372036854775807",
                                "9223372036854775808",
                                "18446744073709551615",
                                "18446744073709551616",
                                "-9223372036854775808",
                                "99999999999999999999999",
                                "0.5",
                                "1e3",
                                "1e-400",
                                "1e308",
                                "1e309",
                                "-1e999",
                                "0.0000001",
                                "01",
                                "1.",
                                ".5",
                                "+1",
                                "1e",
                                "NaN",
                                "Infinity"};
const char* const kWords[] = {"rows",
                              "2*rows",
                              "3*rows",
                              "0*rows",
                              "2147483647*rows",
                              "99999999999*rows",
                              "-1*rows",
                              "steps",
                              "input",
                              "output",
                              "state",
                              "temporary",
                              "array",
                              "weight",
                              "float32",
                              "float64",
                              "int64",
                              "F32",
                              "F64",
                              "I64",
                              "F16",
                              "linear_forward",
                              "linear_backward_update",
                              "shift_forward",
                              "latent_forward",
                              "posterior_forward",
                              "score_forward",
                              "gaussian_forward",
                              "bernoulli_forward",
                              "probabilistic_pca_forward",
                              "svd_forward",
                              "identity",
                              "gelu",
                              "x",
                              "z",
                              "components",
                              "components.T",
                              "golden:input",
                              "golden:output",
                              "crc32",
                              "format",
                              "plans",
                              "golden",
                              "__metadata__",
                              "latentcore",
                              ""};
const char* const kTokens[] = {"{",
                               "}",
                               "[",
                               "]",
                               ",",
                               ":",
                               "\"",
                               "\\\"",
                               "\\",
                               "null",
                               "true",
                               "false",
                               "[]",
                               "{}",
                               "[[",
                               "[1]",
                               "\\\\u0000",
                               "\\u0000",
                               "\\\\ud800",
                               "\\\\ud83d\\\\ude00",
                               "\xff",
                               "\xc3\xa9",
                               "\xf0\x9f\x98\x80",
                               "\xed\xa0\x80",
                               " ",
                               "\n",
                               "\t",
                               "{\\\"a\\\": 1, \\\"a\\\": 2}",
                               "\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"};

template <size_t N>
const char* any(const char* const (&list)[N], Random* random) {
  return list[random->below(N)];
}

// A file in its three parts; any of them may be nonsense.
struct Parts {
  uint64_t length = 0;
  std::string header, data;

  explicit Parts(const std::string& file) {
    std::memcpy(&length, file.data(), std::min<size_t>(8, file.size()));
    const std::string rest = file.size() > 8 ? file.substr(8) : "";
    const auto split = static_cast<size_t>(std::min<uint64_t>(length, rest.size()));
    header = rest.substr(0, split);
    data = rest.substr(split);
  }
};

struct Token {
  size_t begin, size;
};

// The numbers, names and words of a header.
std::vector<Token> tokens_of(const std::string& text) {
  const auto inside = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || std::strchr("_.:*+-", c);
  };
  std::vector<Token> found;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    while (at < text.size() && text[at] && inside(text[at])) ++at;
    if (at > begin && (at - begin > 1 || text[begin] != ':'))
      found.push_back({begin, at - begin});
    at += at == begin;
  }
  return found;
}

bool is_number(const std::string& text, Token token) {
  const char c = text[token.begin];
  return (c >= '0' && c <= '9') || c == '-';
}

// An object or array of a header, brackets included; empty where there is none.
Token subtree(const std::string& text, Random* random) {
  size_t begin = text.find_first_of("{[", random->below(text.size()));
  if (begin == std::string::npos)
    return {0, 0};
  int depth = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    depth += (text[at] == '{' || text[at] == '[') - (text[at] == '}' || text[at] == ']');
    if (depth == 0)
      return {begin, at + 1 - begin};
  }
  return {begin, text.size() - begin};
}

void mutate_token(std::string* header, const std::string& other, Random* random) {
  const std::vector<Token> tokens = tokens_of(*header);
  if (tokens.empty())
    return;
  const Token token = tokens[random->below(tokens.size())];
  const bool number = is_number(*header, token);
  std::string with;
  switch (random->below(6)) {
    case 0:
      with = any(kNumbers, random);
      break;
    case 1:
      with = any(kWords, random);
      break;
    case 2: {  // a little more or less
      const bool fits = number && token.size < 16;
      with = fits ? std::to_string(std::strtoll(header->c_str() + token.begin, nullptr, 10) +
                                   static_cast<int64_t>(random->below(5)) - 2)
                  : any(kTokens, random);
      break;
    }
    case 3: {
      const std::vector<Token> others = tokens_of(other);
      if (others.empty())
        return;
      const Token taken = others[random->below(others.size())];
      with = other.substr(taken.begin, taken.size);
      break;
    }
    default: {  // another of the same kind: names where names are expected
      Token taken = token;
      for (int i = 0; i < 20 && (taken.begin == token.begin || is_number(*header, taken) != number); ++i)
        taken = tokens[random->below(tokens.size())];
      with = header->substr(taken.begin, taken.size);
    }
  }
  header->replace(token.begin, token.size, with);
}

void mutate_tree(std::string* header, const std::string& other, Random* random) {
  const Token place = subtree(*header, random);
  const std::string& source = random->below(4) ? *header : other;
  const Token taken = source.empty() ? Token{0, 0} : subtree(source, random);
  const std::string with = source.substr(taken.begin, taken.size);
  switch (random->below(4)) {
    case 0:
      header->replace(place.begin, place.size, with);
      break;
    case 1:
      header->replace(place.begin, place.size, any(kTokens, random));
      break;
    case 2:
      header->insert(place.begin, with + (random->below(4) ? "," : ""));
      break;
    default: {  // out of a list, with the comma after it
      size_t size = place.size;
      if (place.begin + size < header->size() && (*header)[place.begin + size] == ',')
        ++size;
      header->erase(place.begin, size);
    }
  }
}

void mutate_bytes(std::string* text, const std::string& other, Random* random) {
  const size_t at = random->below(text->size() + 1), size = 1 + random->below(random->below(4) ? 8 : 200);
  switch (random->below(6)) {
    case 0:
      if (at < text->size())
        (*text)[at] = static_cast<char>((*text)[at] ^ (1 << random->below(8)));
      break;
    case 1:
      if (at < text->size())
        (*text)[at] = static_cast<char>(random->next());
      break;
    case 2:
      text->insert(at, any(kTokens, random));
      break;
    case 3:
      text->erase(at, size);
      break;
    case 4:
      text->insert(at, text->substr(random->below(text->size() + 1), size));
      break;
    default:
      text->replace(at, std::min(size, text->size() - at), other, random->below(other.size() + 1), size);
  }
}

void mutate_numbers(std::string* data, Random* random) {
  const bool wide = random->below(2);
  const size_t size = wide ? 8 : 4;
  if (data->size() < size)
    return;
  constexpr double kValues[] = {0,
                                -0.0,
                                1,
                                -1,
                                1e-45,
                                1e-320,
                                3e38,
                                -3e38,
                                1e308,
                                1e5,
                                0.5,
                                1e39,
                                std::numeric_limits<double>::infinity(),
                                std::numeric_limits<double>::quiet_NaN()};
  const double value = kValues[random->below(std::size(kValues))];
  const auto narrow = static_cast<float>(std::min(std::max(value, -3e38), 3e38));
  const size_t at = random->below(data->size() / size) * size;
  std::memcpy(&(*data)[at], wide ? static_cast<const void*>(&value) : &narrow, size);
}

// Zeros where the digits of the checksum stand, then the digits of the whole.
void seal(std::string* file) {
  static const std::string kBefore = R"({\"crc32\": \")";
  const size_t at = file->find(kBefore) + kBefore.size();
  if (at < kBefore.size() || at + 8 > file->size())
    return;
  file->replace(at, 8, "00000000");
  lc::Crc32 crc;
  crc.add(reinterpret_cast<const unsigned char*>(file->data()), file->size());
  file->replace(at, 8, crc.digits());
}

}  // namespace

std::string mutate(const std::string& file, const std::string& other, Random* random) {
  Parts parts(file);
  const Parts source(other);
  const size_t before = parts.header.size();
  for (size_t left = 1 + random->below(1 + random->below(4)); left; --left) switch (random->below(10)) {
      case 0:
        mutate_bytes(&parts.header, source.header, random);
        break;
      case 1:
        mutate_bytes(&parts.data, source.data, random);
        break;
      case 2:
      case 3:
        mutate_numbers(&parts.data, random);
        break;
      case 4:
      case 5:
        mutate_tree(&parts.header, source.header, random);
        break;
      default:
        mutate_token(&parts.header, source.header, random);
    }
  uint64_t length = parts.header.size() == before && random->below(2) ? parts.length : parts.header.size();
  if (random->below(50) == 0)
    length = random->below(2) ? random->next() : uint64_t{1} << random->below(64);
  std::string made(8, '\0');
  std::memcpy(&made[0], &length, 8);
  made += parts.header + parts.data;
  if (random->below(30) == 0)
    made.resize(random->below(made.size() + 1));
  made.resize(std::min(made.size(), kMost));
  if (random->below(2))
    seal(&made);
  return made;
}

}  // namespace fuzz
