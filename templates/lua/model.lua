-- Which model a request asks for, for frontends whose routes look at it.
--
-- HAProxy's json_query is no whole reader of JSON: it knows neither \/ nor \u00e8 nor a byte order mark, ends at a depth
-- of 20, and takes the first of two keys where most servers take the last. A prompt must not go to another provider
-- for that. So the top level of the body is read here, once for each request, in bounded time.
--
-- Called by `http-request lua.hapilot-model`, when as much of the body has been waited for as is needed. It sets
--   txn.model       the model: 1 to 256 bytes without control characters; unset where the request names none
--   txn.route_path  the path, decoded, without double slashes
--   txn.route       PATH \n MODEL
--   txn.refusal     why the request cannot be routed, as the body of an answer in the shape of the API that was called
--   txn.refusal_status  400 or 413, beside it
--   txn.unread      set where only the model is the reason, so that `unread_model` may decide otherwise

local find, byte, sub, match = string.find, string.byte, string.sub, string.match
local QUOTE, BACKSLASH, COLON, SEMICOLON, COMMA, OPEN, CLOSE, BRACKET = 34, 92, 58, 59, 44, 123, 125, 91

-- Work for one request, in steps of some 0.3 microseconds: about 20 ms at the most. Every search and every loop below
-- is paid from it. Once it is spent nothing is guessed: where all of the body is there, the request is refused.
local MOST_STEPS = 66000
local LONGEST_MODEL = 256
local LONGEST_PATH = 8192
-- Header of a part of a multipart body.
local LONGEST_HEAD = 4096

local REASONS = {
  late = { 413, 'This gateway routes by `model` and did not find it in the part of the body that it can look at. '
    .. 'Send `model` as the first key of the JSON object (or the first part of the form), or a smaller body.' },
  many = { 413, 'This gateway routes by `model`, and the body or the query has too many elements to make sure that it '
    .. 'names only one. Send fewer elements (messages, list items, keys, escapes, parts) in one request.' },
  json = { 400, 'This gateway routes by `model`, and the body is no valid JSON object.' },
  name = { 400, '`model` must be a text of 1 to 256 bytes without control characters, and its key is spelt `model`.' },
  twice = { 400, 'The request names two different models, or could be read so.' },
  encoded = { 400, 'This gateway routes by `model` and does not read compressed bodies: send it without Content-Encoding.' },
  charset = { 400, 'This gateway routes by `model` and reads UTF-8: send the body so, and with one plain Content-Type.' },
  form = { 400, 'This gateway routes by `model`, and the body is no plain form: send multipart/form-data by RFC 7578, '
    .. 'without anything before or after its parts.' },
}
local BAD_PATH = 'The path is too long, or has `.` or `..` segments, control characters or wrong percent-encoding.'

local function spend(work, steps)
  work.left = work.left - steps
end

-- Keeps where a model stands, for who wants to know: from its first byte to its last one, without quotes; and how it is written
-- there.
local function keep(work, first, last, kind)
  local places = work.places
  if not places then return end
  places[#places + 1] = { first = first, last = last, kind = kind }
  -- Too many are refused anyway.
  if #places > work.most_places then work.left = 0 end
end

-- Index of the first byte of a class from `at` on; nil where there is none, or the work is spent. Never further than what
-- may be spent: where that could end before the text, it goes in small pieces.
local function seek(work, text, class, at)
  if (#text - at) // 16 < work.left then
    local found = find(text, class, at)
    spend(work, ((found or #text + 1) - at) // 16)
    return found
  end
  while at <= #text and work.left > 0 do
    local found = find(sub(text, at, at + 1023), class)
    spend(work, 2 + (found or 1024) // 16)
    if found then return at + found - 1 end
    at = at + 1024
  end
end

-- The same for a text.
local function seek_text(work, text, what, at)
  if (#text - at) // 32 < work.left then
    local found = find(text, what, at, true)
    spend(work, ((found or #text + 1) - at) // 32)
    return found
  end
  while at <= #text and work.left > 0 do
    local found = find(sub(text, at, at + 4095 + #what), what, 1, true)
    spend(work, 3 + (found or 4096) // 32)
    if found then return at + found - 1 end
    at = at + 4096
  end
end

local BLANK, NO_BLANK = '[^ \t\r\n]', '^[^ \t\r\n]'

-- Index of what is no blank, from `at` on.
local function skip(work, text, at)
  if find(text, NO_BLANK, at) then return at end
  return seek(work, text, BLANK, at)
end

-- Index of the quote that ends the string which begins at `at`; nil where it does not end, or the work is spent.
local function string_end(work, text, at)
  local from = at
  while work.left > 0 do
    local quote = find(text, '"', from, true)
    if not quote then return nil end
    spend(work, 0.85)
    if byte(text, quote - 1) ~= BACKSLASH then return quote end
    if byte(text, quote - 2) == BACKSLASH then
      -- An even number of backslashes stands for themselves. Never further than what may still be spent.
      local back, stop = quote - 3, math.max(at, quote - 3 * work.left - 2)
      while back >= stop and byte(text, back) == BACKSLASH do back = back - 1 end
      local escapes = quote - 1 - back
      spend(work, escapes // 3)
      if escapes % 2 == 0 and work.left > 0 then return quote end
    end
    from = quote + 1
  end
end

local SHORT = { b = '\b', f = '\f', n = '\n', r = '\r', t = '\t', ['"'] = '"', ['\\'] = '\\', ['/'] = '/' }

-- What a string of JSON with its escapes means; nil where it is none. Only for short ones.
local function decoded(work, raw)
  if not find(raw, '\\', 1, true) then return raw end
  local parts, at = {}, 1
  while true do
    local escape = find(raw, '\\', at, true)
    parts[#parts + 1] = sub(raw, at, (escape or 0) - 1)
    spend(work, 4)
    if not escape then return table.concat(parts) end
    local kind = sub(raw, escape + 1, escape + 1)
    if kind == 'u' then
      local hex = match(raw, '^%x%x%x%x', escape + 2)
      if not hex then return nil end
      local code = tonumber(hex, 16)
      at = escape + 6
      if code >= 0xd800 and code <= 0xdbff then
        local low = match(raw, '^\\u([dD][c-fC-F]%x%x)', at)
        if not low then return nil end
        code = 0x10000 + (code - 0xd800) * 0x400 + tonumber(low, 16) - 0xdc00
        at = at + 6
      elseif code >= 0xdc00 and code <= 0xdfff then
        return nil
      end
      parts[#parts + 1] = utf8.char(code)
    else
      if not SHORT[kind] then return nil end
      parts[#parts + 1] = SHORT[kind]
      at = escape + 2
    end
  end
end

local function is_model(text)
  return text and #text > 0 and #text <= LONGEST_MODEL and not find(text, '[%c\x7f]')
end

-- Index behind the object or array that begins at `at`; nil where it does not end, or the work is spent.
local function nested_end(work, text, at)
  local depth, from = 1, at + 1
  while depth > 0 do
    local mark = seek(work, text, '["%[%]{}]', from)
    spend(work, 2)
    if not mark or work.left <= 0 then return nil end
    local kind = byte(text, mark)
    from = mark + 1
    if kind == QUOTE then
      local quote = string_end(work, text, from)
      if not quote then return nil end
      from = quote + 1
    elseif kind == OPEN or kind == BRACKET then
      depth = depth + 1
    else
      depth = depth - 1
    end
  end
  return from
end

-- Index behind a number, true, false or null.
local function word_end(work, text, at)
  return seek(work, text, '[^%w.+-]', at)
end

local function of_hex(digits)
  local code = tonumber(digits, 16)
  return code < 128 and string.char(code) or ''
end

-- Whether what stands between two quotes is the key `model`, however it is escaped; and whether it is spelt so. Some
-- servers do not look at the case. No letter of it has a short escape in JSON; lenient readers know others, and leave out
-- bytes that are no UTF-8.
local function is_model_key(work, raw)
  if #raw > 30 or #raw < 5 then return false end
  spend(work, 1)
  if find(raw, '\\[^u]') or find(raw, '[%c\x80-\xff]') then
    spend(work, 8)
    local lax = raw:gsub('\\[xX](%x%x)', of_hex):gsub('\\u(%x%x%x%x)', of_hex):gsub('\\(.)', '%1')
    return lax:gsub('[%c\x80-\xff]', ''):lower() == 'model', false
  end
  local key = decoded(work, raw)
  return key and #key == 5 and key:lower() == 'model', key == 'model'
end

-- What a body is whose text, or what may be spent on it, ends too early. One that is larger than what is held goes by the
-- model that it begins with. Of one that is there as a whole, or may be, nothing may remain unread.
local function ended(work, model, size, defect)
  if work.left <= 0 and size ~= 'larger' then return nil, 'many' end
  if size == 'whole' then return nil, defect end
  if model then return model end
  return nil, 'late'
end

-- The model of a body that begins like a JSON object; else why not; neither where the object has none.
local function of_json(work, text, at, size)
  local model, raw
  local function cut()
    return ended(work, model, size, 'json')
  end
  at = skip(work, text, at + 1)
  if at and byte(text, at) == CLOSE then
    if skip(work, text, at + 1) then return nil, 'json' end
    if work.left <= 0 then return cut() end
    return nil
  end
  while at do
    if byte(text, at) ~= QUOTE then return nil, 'json' end
    local quote = string_end(work, text, at + 1)
    if not quote then return cut() end
    local is_it, is_spelt_so = is_model_key(work, quote - at <= 31 and sub(text, at + 1, quote - 1) or '')
    if is_it and not is_spelt_so then return nil, 'name' end
    local colon = skip(work, text, quote + 1)
    if not colon then return cut() end
    if byte(text, colon) ~= COLON then return nil, 'json' end
    local value = skip(work, text, colon + 1)
    if not value then return cut() end
    local kind, after = byte(text, value), nil
    if kind == QUOTE then
      quote = string_end(work, text, value + 1)
      if not quote and is_it and model and work.left > 0 then return nil, 'twice' end
      if not quote then return cut() end
      if is_it then
        if quote - value > 6 * LONGEST_MODEL + 1 then return nil, 'name' end
        local again = sub(text, value + 1, quote - 1)
        keep(work, value + 1, quote - 1, 'json')
        spend(work, #again // 16)
        if again ~= raw then
          local found = decoded(work, again)
          spend(work, #again // 8)
          if not is_model(found) then return nil, 'name' end
          if model and model ~= found then return nil, 'twice' end
          model, raw = found, again
        end
      end
      after = quote + 1
    elseif is_it then
      return nil, 'name'
    elseif kind == OPEN or kind == BRACKET then
      after = nested_end(work, text, value)
    else
      after = word_end(work, text, value)
      if after == value then return nil, 'json' end
    end
    if not after then return cut() end
    spend(work, 5)
    local mark = skip(work, text, after)
    if not mark or work.left <= 0 then return cut() end
    if byte(text, mark) == CLOSE then
      if skip(work, text, mark + 1) then return nil, 'json' end
      if work.left <= 0 then return cut() end
      return model
    end
    if byte(text, mark) ~= COMMA then return nil, 'json' end
    at = skip(work, text, mark + 1)
  end
  return cut()
end

local function character(hex)
  return string.char(tonumber(hex, 16))
end

-- Percent-encoding undone; nil where it is wrong.
local function unescaped(text)
  local rest = text:gsub('%%%x%x', '')
  if find(rest, '%', 1, true) then return nil end
  return (text:gsub('%%(%x%x)', character))
end

-- Beyond so many bytes no reader takes a key for `model`, unless it begins with blanks.
local LONGEST_KEY = 256

-- Whether a key of a query or of a form is `model`, or is read so by some servers: PHP does not mind blanks before it,
-- many take `model[]` for a list, some do not look at the case. And whether it is spelt so.
local function is_model_field(work, key)
  local is_cut = #key > LONGEST_KEY
  if is_cut then key = sub(key, 1, LONGEST_KEY) end
  local blanks, first = match(key, '^[%s%c+]*()(.?)')
  spend(work, 2 + blanks // 8)
  if first ~= '' and not find('%mM_', first, 1, true) then return false end
  local _, escapes = key:gsub('%%', '')
  spend(work, 10 + #key // 4 + 2 * escapes)
  key = key:gsub('%%(%x%x)', character):gsub('+', ' ')
  local plain = match(key:lower(), '^[%s%c]*(.*)$')
  if is_cut and #plain < 32 then return true, false end
  return find(plain, '^model$') or find(plain, '^model[%[%s%c]') or plain == '_charset_', key == 'model' and not is_cut
end

-- The model of a query or of a form of that kind. Some servers take `;` for `&`.
local function of_pairs(work, text)
  local model, at = nil, 1
  local ampersand, semicolon = 0, 0
  while at <= #text do
    if ampersand < at then ampersand = find(text, '&', at, true) or #text + 1 end
    if semicolon < at then semicolon = find(text, ';', at, true) or #text + 1 end
    local stop = math.min(ampersand, semicolon)
    spend(work, 3 + (stop - at) // 1024)
    if work.left <= 0 then return nil, 'many' end
    local equals = find(sub(text, at, math.min(stop - 1, at + LONGEST_KEY)), '=', 1, true)
    local key = sub(text, at, equals and at + equals - 2 or stop - 1)
    if #key >= 5 then
      local is_it, is_spelt_so = is_model_field(work, key)
      if is_it then
        if not is_spelt_so or not equals then return nil, 'name' end
        if byte(text, at - 1) == SEMICOLON or byte(text, stop) == SEMICOLON then return nil, 'twice' end
        local value = sub(text, at + equals, stop - 1)
        if #value > 3 * LONGEST_MODEL then return nil, 'name' end
        spend(work, #value)
        value = unescaped((value:gsub('+', ' ')))
        if not is_model(value) then return nil, 'name' end
        if model and model ~= value then return nil, 'twice' end
        keep(work, at + equals, stop - 1, 'pairs')
        model = value
      end
    end
    at = stop + 1
  end
  return model
end

-- A Content-Type and its parameters, the names of all in small letters; nil where readers may differ about it.
local function media_type(work, text)
  if #text > 512 then return nil end
  spend(work, #text // 4)
  local kind, at = match(text, "^([%w!#$&^_.+/-]+)[ \t]*()")
  if not kind then return nil end
  local parameters = {}
  while at <= #text do
    if find(text, '^;[ \t]*$', at) then break end
    local name, from = match(text, '^;[ \t]*([%w!#$&^_.+-]+)=()', at)
    if not name then return nil end
    local value, behind = match(text, '^"([^"\\%c]*)"[ \t]*()', from)
    if not value then
      value, behind = match(text, "^([%w!#$&'*^_.+`|~-]+)[ \t]*()", from)
    end
    name = name:lower()
    if not value or parameters[name] then return nil end
    parameters[name], at = value, behind
  end
  return kind:lower(), parameters
end

local UTF_8, OF_ASCII = { ['utf-8'] = true, utf8 = true }, { ['us-ascii'] = true, ascii = true, ['iso-8859-1'] = true }

-- What kind of encoding a body or a part of this type has: UTF-8, or one that is the same as long as a model is ASCII;
-- nil for all others, where other bytes than ours may spell `model`.
local function encoding_of(parameters)
  local charset = parameters.charset and parameters.charset:lower()
  if not charset or UTF_8[charset] then return 'utf-8' end
  return OF_ASCII[charset] and 'ascii' or nil
end

-- The parameters of a Content-Disposition of a part: its name, and whether it is a file; nil where it cannot be told for
-- sure.
local function name_of(value)
  local at = select(2, find(value, '^ *[fF][oO][rR][mM]%-[dD][aA][tT][aA]'))
  local name, is_file = nil, false
  while at and at < #value do
    local _, last, key = find(value, '^ *; *([%a*]+)=', at + 1)
    if not key then return nil end
    key = key:lower()
    local content
    if byte(value, last + 1) == QUOTE then
      local quote = find(value, '"', last + 2, true)
      -- Some readers take `\"` for the end, some do not.
      if not quote or byte(value, quote - 1) == BACKSLASH then return nil end
      content, at = sub(value, last + 2, quote - 1), quote
    else
      _, at, content = find(value, '^([^%s;"]+)', last + 1)
      if not at then return nil end
    end
    if key == 'name' then
      if name or find(content, '\\', 1, true) then return nil end
      name = content
    elseif key == 'filename' or key == 'filename*' then
      if find(content:lower(), 'name=', 1, true) then return nil end
      is_file = true
    else
      return nil
    end
  end
  return name, is_file
end

-- What the header lines of a part say; nil where readers may differ about it.
local function part_of(work, head)
  local part, at = {}, 1
  while at <= #head do
    local stop = find(head, '\r\n', at, true) or #head + 1
    spend(work, 10 + (stop - at) // 8)
    if work.left <= 0 then return nil, 'many' end
    local line = sub(head, at, stop - 1)
    local key, value = match(line, '^([%w%-]+):(.*)$')
    if not key or find(line, '%c') then return nil, 'form' end
    key = key:lower()
    if part[key] then return nil, 'form' end
    part[key] = value
    at = stop + 2
  end
  local way = part['content-transfer-encoding']
  if way and not find(way:lower(), '^ *[78]bit *$') and not find(way:lower(), '^ *binary *$') then return nil, 'form' end
  if part['content-encoding'] or not part['content-disposition'] then return nil, 'form' end
  spend(work, #part['content-disposition'] // 2)
  part.name, part.is_file = name_of(part['content-disposition'])
  if not part.name then return nil, 'form' end
  return part
end

-- The model that a part is; else why not.
local function model_of_part(work, part, text)
  if part.is_file or part.name ~= 'model' then return nil, 'name' end
  spend(work, #text // 8)
  if not is_model(text) then return nil, 'name' end
  if part['content-type'] then
    local kind, parameters = media_type(work, match(part['content-type'], '^ *(.*)$'))
    if kind ~= 'text/plain' then return nil, 'form' end
    local encoding = encoding_of(parameters)
    if not encoding or encoding == 'ascii' and find(text, '[\x80-\xff]') then return nil, 'charset' end
  end
  return text
end

-- The delimiter of a multipart form by its Content-Type, as RFC 2046 writes it; nil where readers may differ about it.
local function delimiter_of(kind, parameters)
  if kind ~= 'multipart/form-data' then return nil end
  for name in pairs(parameters) do
    if name ~= 'boundary' and name ~= 'charset' then return nil end
  end
  local boundary = parameters.boundary
  if not boundary or #boundary > 70 or not find(boundary, "^[%w'()+_,./:=?-]+$") then return nil end
  return '--' .. boundary
end

-- The model of a multipart form. What is no plain form is refused: readers differ about it. So is a delimiter that
-- stands anywhere but where one must: not every reader demands a whole line break before and behind it.
local function of_parts(work, text, delimiter, size)
  if not delimiter or sub(text, 1, #delimiter) ~= delimiter then return nil, 'form' end
  local model, at = nil, 1
  local function cut()
    return ended(work, model, size, 'form')
  end
  while true do
    at = at + #delimiter
    local next_two = sub(text, at, at + 1)
    if next_two == '--' then
      -- Nothing but a line break behind the last one.
      local rest = sub(text, at + 2, at + 4)
      if rest ~= '' and rest ~= '\r\n' then return nil, 'form' end
      return model
    end
    if #next_two < 2 then return cut() end
    if next_two ~= '\r\n' then return nil, 'form' end
    local slice = sub(text, at + 2, at + LONGEST_HEAD)
    local blank = find(slice, '\r\n\r\n', 1, true)
    spend(work, 20 + (blank or #slice) // 16)
    if not blank then
      if at + LONGEST_HEAD > #text then return cut() end
      return nil, 'form'
    end
    local part, why = part_of(work, sub(slice, 1, blank - 1))
    if not part then
      if why == 'many' then return cut() end
      return nil, why
    end
    local content = at + 2 + blank + 3
    -- The line break before a delimiter belongs to it, and may be the one behind the header.
    local stop = seek_text(work, text, delimiter, content - 2)
    if stop and sub(text, stop - 2, stop - 1) ~= '\r\n' then return nil, 'form' end
    local is_it = is_model_field(work, part.name)
    if not stop or work.left <= 0 then
      -- Some readers take a part without an end.
      if is_it and model and work.left > 0 then return nil, 'twice' end
      return cut()
    end
    local length = part['content-length']
    if length and tonumber(match(length, '^ *(%d+) *$')) ~= stop - 2 - content then return nil, 'form' end
    if part.name == '_charset_' then return nil, 'charset' end
    if is_it then
      local found, defect = model_of_part(work, part, sub(text, content, math.min(stop - 3, content + LONGEST_MODEL)))
      if not found then return nil, defect end
      if model and model ~= found then return nil, 'twice' end
      keep(work, content, stop - 3, 'part')
      model = found
    end
    at = stop
  end
end

-- Where a text begins behind the mark of UTF-16 or UTF-32 that may stand before it.
local function text_begins(text)
  if find(text, '^\xff\xfe') or find(text, '^\xfe\xff') then return 3 end
  return find(text, '^%z%z\xfe\xff') and 5 or 1
end

-- The model of a body; else why not; neither where it has none.
local function of_body(work, txn)
  local f = txn.sf
  local text = f:req_body()
  if #text == 0 then return nil end
  local encoding = f:req_fhdr('content-encoding')
  if encoding ~= '' and encoding:lower() ~= 'identity' or txn.f:req_fhdr_cnt('content-encoding') > 1 then
    return nil, 'encoded'
  end
  if txn.f:req_fhdr_cnt('content-type') > 1 then return nil, 'form' end
  -- Of a chunked body nobody knows the size: one that fills no small buffer has not been cut. Of one that comes by HTTP/2
  -- HAProxy only tells what is there.
  local told = tonumber(f:req_fhdr('content-length')) or 0
  local size = (told > #text or txn.f:req_body_size() > #text) and 'larger'
    or (f:req_fhdr('content-length') ~= '' or #text < 8192) and 'whole' or 'unknown'
  local content_type = f:req_fhdr('content-type')
  local said = content_type:lower()
  local kind, parameters = media_type(work, content_type)
  if find(said, 'multipart/', 1, true) then
    local delimiter = kind and encoding_of(parameters) == 'utf-8' and delimiter_of(kind, parameters)
    return of_parts(work, text, delimiter, size)
  end
  encoding = kind and encoding_of(parameters) or not kind and not find(said, 'charset', 1, true) and 'utf-8'
  local at = skip(work, text, 1)
  if sub(text, 1, 3) == '\xef\xbb\xbf' then at = skip(work, text, 4) end
  if not at then return nil, work.left <= 0 and 'many' or nil end
  local is_json, is_form = byte(text, at) == OPEN and byte(text, at + 1) ~= 0, find(said, 'x-www-form', 1, true)
  local model, why, as_form
  -- Also where it is called a form, as curl's -d does.
  if is_json then
    model, why = of_json(work, text, at, size)
  end
  if is_form and not why then
    if not is_json and size ~= 'whole' then return nil, 'late' end
    as_form, why = of_pairs(work, text)
    -- Read as a form, it must name no other one.
    if is_json and as_form and as_form ~= model then why = 'twice' end
    model = model or as_form
  end
  if not is_json then
    -- JSON in another encoding than UTF-8, which some servers read, whatever it is called.
    local start = seek(work, text, '[^%z \t\r\n]', text_begins(text))
    if work.left <= 0 then return nil, 'many' end
    if start and byte(text, start) == OPEN then return nil, 'json' end
  end
  if is_json or is_form then
    if why then return nil, why end
    if not encoding or encoding == 'ascii' and model and find(model, '[\x80-\xff]') then return nil, 'charset' end
    return model
  end
  if find(said, 'json', 1, true) then
    if not encoding then return nil, 'charset' end
    -- Neither an object nor another value: lenient servers may see one in it all the same.
    if not find(text, '^["%[%-%dtfn]', at) then return nil, 'json' end
  end
  return nil
end

-- The path as servers understand it; nil where it could be understood in several ways.
local function plain_path(raw)
  if #raw > LONGEST_PATH then return nil end
  local path = unescaped(raw)
  if not path or find(path, '[%c\x7f]') then return nil end
  path = path:gsub('//+', '/')
  if find(path .. '/', '/%.%.?/') then return nil end
  return path
end

-- The segments of a path as it came, without empty ones; each is decoded where it is looked at.
local function segments_of(raw)
  local segments = {}
  for segment in string.gmatch(raw, '[^/]+') do segments[#segments + 1] = segment end
  return segments
end

-- The model that stands in the path of some APIs, and is the one that counts there; from which segment on, up to which one, and
-- what stands behind it in the last one; and all segments. A slash within a name is encoded there. `path` is the same as
-- `plain_path` gives it.
local function of_path(method, raw, path)
  local is_it = find(path, '/models/', 1, true) or find(path, '/openai/deployments/', 1, true) or find(path, '^/model/')
  if not is_it then return nil end
  local segments = segments_of(raw)
  local function at(index)
    local segment = segments[index]
    return segment and find(segment, '%', 1, true) and unescaped(segment) or segment
  end
  local count = #segments
  local verb = method == 'POST' and count > 0 and match(at(count), ':%a+$') -- Gemini
  for i = 1, count - 1 do
    local segment = at(i)
    if segment == 'models' and verb then
      local rest = unescaped(table.concat(segments, '/', i + 1))
      local name = sub(rest, 1, #rest - #verb)
      if name ~= '' and not find(name, ':', 1, true) then return name, i + 1, count, verb, segments end
      verb = nil
    end
    if segment == 'openai' and at(i + 1) == 'deployments' and i + 2 < count then return at(i + 2), i + 2, i + 2, '', segments end -- Azure
  end
  local first = at(1)
  if first == 'model' and count > 2 then return at(2), 2, 2, '', segments end -- Bedrock
  if first == 'v1' and at(2) == 'models' and count > 2 then -- OpenAI
    return unescaped(table.concat(segments, '/', 3)), 3, count, '', segments
  end
end

-- A refusal in the shape of the API that was called.
local function shaped(path, status, message)
  message = message:gsub('["\\]', '\\%0')
  if find(path, '/v1/messages', 1, true) then
    return '{"type":"error","error":{"type":"invalid_request_error","message":"' .. message .. '"}}'
  end
  if find(path, '/v1beta', 1, true) or find(path, ':%a+$') then
    return '{"error":{"code":' .. status .. ',"message":"' .. message .. '","status":"INVALID_ARGUMENT"}}'
  end
  return '{"error":{"message":"' .. message .. '","type":"invalid_request_error","param":"model","code":"model_not_routable"}}'
end

local function refuse(txn, path, status, message)
  txn:set_var('txn.refusal', shaped(path, status, message))
  txn:set_var('txn.refusal_status', tostring(status))
end

-- For rename.lua.
hapilot_models = {
  of_body = of_body, of_pairs = of_pairs, of_path = of_path, plain_path = plain_path, reasons = REASONS,
  refuse = function(txn, status, message) refuse(txn, sub(txn.sf:path(), 1, 256), status, message) end,
  work = function(most_places) return { left = MOST_STEPS, places = {}, most_places = most_places } end,
}

core.register_action('hapilot-model', { 'http-req' }, function(txn)
  local f = txn.sf
  local raw = f:path()
  local path = plain_path(raw)
  if not path then return refuse(txn, sub(raw, 1, 256), 400, BAD_PATH) end
  local work = { left = MOST_STEPS }
  local model, why = of_path(f:method(), raw, path), nil
  if model then
    if not is_model(model) then model, why = nil, 'name' end
  else
    model, why = of_body(work, txn)
    if not why then
      local asked, defect = of_pairs(work, f:query())
      if defect then
        model, why = nil, defect
      elseif asked and model and asked ~= model then
        model, why = nil, 'twice'
      else
        model = model or asked
      end
    end
  end
  txn:set_var('txn.route_path', path)
  if why then
    txn:set_var('txn.unread', why)
    refuse(txn, path, table.unpack(REASONS[why]))
  else
    if model then txn:set_var('txn.model', model) end
    txn:set_var('txn.route', path .. '\n' .. (model or ''))
  end
end, 0)
