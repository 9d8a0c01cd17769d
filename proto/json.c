/* JSON: the scanner. */
#include "proto/json.h"

#include <string.h>

#include "proto/status.h"
#include "proto/utf8.h"

void json_init(struct json *json, const void *text, size_t size)
{
	json->begin = json->at = text;
	json->end = json->begin + size;
	json->expected = "";
}

size_t json_offset(const struct json *json)
{
	return (size_t)(json->at - json->begin);
}

int json_at_end(const struct json *json)
{
	return json->at == json->end;
}

int json_next(struct json *json, char c)
{
	if (json->at == json->end || *json->at != (unsigned char)c)
		return 0;
	json->at++;
	return 1;
}

static void skip_space(struct json *json)
{
	while (json->at < json->end && *json->at && strchr(" \t\n\r", *json->at))
		json->at++;
}

int json_take(struct json *json, char c)
{
	skip_space(json);
	return json_next(json, c);
}

static int refuse(struct json *json, const char *expected)
{
	json->expected = expected;
	return OPTD_MALFORMED;
}

/* Four hexadecimal digits, or -1. */
static int32_t take_hex4(struct json *json)
{
	int32_t value = 0;

	if (json->end - json->at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int c = *json->at++, letter = c | 0x20;

		if (c >= '0' && c <= '9')
			value = value * 16 + (c - '0');
		else if (letter >= 'a' && letter <= 'f')
			value = value * 16 + (letter - 'a' + 10);
		else
			return -1;
	}
	return value;
}

static char *put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*out++ = (char)(0xe0 | c >> 12);
		} else {
			*out++ = (char)(0xf0 | c >> 18);
			*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		}
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (c & 0x3f));
	return out;
}

/* What follows "\u": a character, or a pair of surrogates that make one.  The
 * result is shorter than the six or twelve bytes it is read from. */
static int take_unicode(struct json *json, char **out)
{
	int32_t c = take_hex4(json), low;

	if (c <= 0 || (c >= 0xdc00 && c <= 0xdfff))
		return refuse(json, "four digits of a character that is not NUL");
	if (c >= 0xd800 && c <= 0xdbff) {
		low = json_next(json, '\\') && json_next(json, 'u') ? take_hex4(json) : -1;
		if (low < 0xdc00 || low > 0xdfff)
			return refuse(json, "the second half of a surrogate pair");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	*out = put_utf8(*out, (uint32_t)c);
	return OPTD_OK;
}

static int take_escape(struct json *json, char **out)
{
	static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	const char *letter;

	if (json_next(json, 'u'))
		return take_unicode(json, out);
	letter = json->at < json->end && *json->at ? strchr(letters, *json->at) : NULL;
	if (!letter)
		return refuse(json, "one of \"\\/bfnrtu behind a backslash");
	*(*out)++ = meanings[letter - letters];
	json->at++;
	return OPTD_OK;
}

int json_read_string(struct json *json, char *out, size_t *size)
{
	char *put = out;
	int rc;

	if (!json_take(json, '"'))
		return refuse(json, "a string");
	while (!json_next(json, '"')) {
		if (json_at_end(json))
			return refuse(json, "the end of a string");
		if (*json->at < 0x20)
			return refuse(json, "a string without control characters");
		if (!json_next(json, '\\')) {
			*put++ = (char)*json->at++;
			continue;
		}
		rc = take_escape(json, &put);
		if (rc < 0)
			return rc;
	}
	if (!utf8_valid(out, (size_t)(put - out)))
		return refuse(json, "a string of valid UTF-8 before this");
	*put++ = '\0';
	*size = (size_t)(put - out);
	return OPTD_OK;
}

int json_number(struct json *json, uint64_t *out)
{
	const unsigned char *begin;
	uint64_t value = 0;

	skip_space(json);
	begin = json->at;
	while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*json->at - '0'), &value) || value > INT64_MAX)
			return refuse(json, "a number below 2^63");
		json->at++;
	}
	if (json->at == begin || (*begin == '0' && json->at - begin > 1))
		return refuse(json, "a whole number");
	*out = value;
	return OPTD_OK;
}
