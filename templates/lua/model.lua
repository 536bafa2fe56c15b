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
local QUOTE, BACKSLASH, COLON, COMMA, OPEN, CLOSE, BRACKET = 34, 92, 58, 44, 123, 125, 91

-- Work for one body, in steps of some 0.2 microseconds: about 25 ms at the most.
local MOST_STEPS = 120000
local LONGEST_MODEL = 256
local LONGEST_PATH = 8192
-- Parts of a multipart body, pairs of a query.
local MOST_PARTS = 200
-- Header of a part of a multipart body.
local LONGEST_HEAD = 4096

local REASONS = {
  late = { 413, 'This gateway routes by `model` and did not find it in the part of the body that it can look at. '
    .. 'Send `model` as the first key of the JSON object (or the first part of the form), or a smaller body.' },
  many = { 413, 'This gateway routes by `model`, and the body has too many parts to look for it. '
    .. 'Send `model` as the first key of the JSON object, or a smaller body.' },
  json = { 400, 'This gateway routes by `model`, and the body is no valid JSON object.' },
  name = { 400, '`model` must be a text of 1 to 256 bytes without control characters, and its key is spelt `model`.' },
  twice = { 400, 'The request names two different models.' },
  encoded = { 400, 'This gateway routes by `model` and does not read compressed bodies: send it without Content-Encoding.' },
  form = { 400, 'This gateway routes by `model`, and the body is no valid form.' },
}
local BAD_PATH = 'The path is too long, or has `.` or `..` segments, control characters or wrong percent-encoding.'

-- Index of the quote that ends the string which begins at `at`, nil where it does not end; and the steps so far.
local function string_end(text, at, steps)
  local from = at
  while true do
    local quote = find(text, '"', from, true)
    if not quote then return nil, steps end
    steps = steps + 1
    if byte(text, quote - 1) ~= BACKSLASH then return quote, steps end
    if byte(text, quote - 2) == BACKSLASH then
      -- An even number of backslashes stands for themselves. Never further than what may still be spent.
      local back, stop = quote - 3, math.max(at, quote - 3 * (MOST_STEPS - steps) - 2)
      while back >= stop and byte(text, back) == BACKSLASH do back = back - 1 end
      local escapes = quote - 1 - back
      steps = steps + escapes // 3
      if escapes % 2 == 0 and steps <= MOST_STEPS then return quote, steps end
    end
    if steps > MOST_STEPS then return nil, steps end
    from = quote + 1
  end
end

local SHORT = { b = '\b', f = '\f', n = '\n', r = '\r', t = '\t', ['"'] = '"', ['\\'] = '\\', ['/'] = '/' }

-- What a string of JSON with its escapes means; nil where it is none. Only for short ones.
local function decoded(raw)
  if not find(raw, '\\', 1, true) then return raw end
  local parts, at = {}, 1
  while true do
    local escape = find(raw, '\\', at, true)
    parts[#parts + 1] = sub(raw, at, (escape or 0) - 1)
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

-- Index behind the object or array that begins at `at`; nil where it does not end.
local function nested_end(text, at, steps)
  local depth, from = 1, at + 1
  while depth > 0 do
    local mark = find(text, '["%[%]{}]', from)
    if not mark then return nil, steps end
    steps = steps + 2 + (mark - from) // 16
    if steps > MOST_STEPS then return nil, steps end
    local kind = byte(text, mark)
    from = mark + 1
    if kind == QUOTE then
      local quote
      quote, steps = string_end(text, from, steps)
      if not quote then return nil, steps end
      from = quote + 1
    elseif kind == OPEN or kind == BRACKET then
      depth = depth + 1
    else
      depth = depth - 1
    end
  end
  return from, steps
end

-- Index behind a number, true, false or null.
local function word_end(text, at, steps)
  local stop = find(text, '[^%w.+-]', at)
  return stop, steps + ((stop or #text) - at) // 16
end

local BLANK = '[^ \t\r\n]'

-- The model of a body that begins like a JSON object; else why not; neither where the object has none.
local function of_json(text, at, is_whole)
  local steps, model = 0, nil
  -- Where the text, or what may be spent, ends too early. A model that was found before that counts: it stands early,
  -- as the refusals ask for. A second one behind it is not seen.
  local function cut()
    if model then return model end
    if steps > MOST_STEPS then return nil, 'many' end
    return nil, is_whole and 'json' or 'late'
  end
  at = find(text, BLANK, at + 1)
  if at and byte(text, at) == CLOSE then
    if find(text, BLANK, at + 1) then return nil, 'json' end
    return nil
  end
  while at do
    if byte(text, at) ~= QUOTE then return nil, 'json' end
    local quote
    quote, steps = string_end(text, at + 1, steps)
    if not quote then return cut() end
    -- `model`, however it is escaped, has at most 30 characters. Some servers do not look at the case.
    local key = quote - at <= 31 and decoded(sub(text, at + 1, quote - 1)) or ''
    local is_it = #key == 5 and key:lower() == 'model'
    if is_it and key ~= 'model' then return nil, 'name' end
    local colon = find(text, BLANK, quote + 1)
    if not colon then return cut() end
    if byte(text, colon) ~= COLON then return nil, 'json' end
    local value = find(text, BLANK, colon + 1)
    if not value then return cut() end
    local kind, after = byte(text, value), nil
    if kind == QUOTE then
      quote, steps = string_end(text, value + 1, steps)
      if not quote then return cut() end
      if is_it then
        local found = quote - value <= 6 * LONGEST_MODEL + 1 and decoded(sub(text, value + 1, quote - 1))
        if not is_model(found) then return nil, 'name' end
        if model and model ~= found then return nil, 'twice' end
        model = found
      end
      after = quote + 1
    elseif is_it then
      return nil, 'name'
    elseif kind == OPEN or kind == BRACKET then
      after, steps = nested_end(text, value, steps)
    else
      after, steps = word_end(text, value, steps)
      if after == value then return nil, 'json' end
    end
    if not after then return cut() end
    steps = steps + 5
    if steps > MOST_STEPS then return cut() end
    local mark = find(text, BLANK, after)
    if not mark then return cut() end
    if byte(text, mark) == CLOSE then
      if find(text, BLANK, mark + 1) then return nil, 'json' end
      return model
    end
    if byte(text, mark) ~= COMMA then return nil, 'json' end
    at = find(text, BLANK, mark + 1)
  end
  return cut()
end

-- Percent-encoding undone; nil where it is wrong.
local function unescaped(text)
  local rest = text:gsub('%%%x%x', '')
  if find(rest, '%', 1, true) then return nil end
  return (text:gsub('%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end))
end

-- The model of a query or of a form of that kind.
local function of_pairs(text)
  local model, count = nil, 0
  for key, value in text:gmatch('([^&=]*)=?([^&]*)') do
    count = count + 1
    if count > MOST_PARTS then return nil, 'many' end
    if #key <= 15 and #key >= 5 then
      key = unescaped(key)
      if key and key:lower() == 'model' then
        value = #value <= 3 * LONGEST_MODEL and unescaped((value:gsub('+', ' ')))
        if key ~= 'model' or not is_model(value) then return nil, 'name' end
        if model and model ~= value then return nil, 'twice' end
        model = value
      end
    end
  end
  return model
end

-- The parameters of a Content-Disposition of a part: its name; nil where it cannot be told for sure.
local function name_of(value)
  local at = select(2, find(value, '^ *[fF][oO][rR][mM]%-[dD][aA][tT][aA]'))
  local name
  while at and at < #value do
    local _, last, key = find(value, '^ *; *([%a*]+)=', at + 1)
    if not key then return nil end
    key = key:lower()
    local content
    if byte(value, last + 1) == QUOTE then
      local quote = string_end(value, last + 2, 0)
      if not quote then return nil end
      content, at = sub(value, last + 2, quote - 1), quote
    else
      _, at, content = find(value, '^([^%s;"]+)', last + 1)
      if not at then return nil end
    end
    if key == 'name' then
      if name or find(content, '\\', 1, true) then return nil end
      name = content
    elseif key ~= 'filename' and key ~= 'filename*' then
      return nil
    end
  end
  return name
end

-- The name of a part by its header lines; nil where readers may differ about it.
local function part_name(head)
  local name
  for line in (head .. '\r\n'):gmatch('(.-)\r\n') do
    local key, value = match(line, '^([%w%-]+):(.*)$')
    if not key or find(line, '[\r\n]') then return nil end
    key = key:lower()
    if key == 'content-disposition' then
      if name then return nil end
      name = name_of(value)
      if not name then return nil end
    elseif key == 'content-transfer-encoding' and not find(value:lower(), '^ *[78]bit *$') and not find(value:lower(), '^ *binary *$') then
      return nil
    end
  end
  return name
end

-- The boundary of a multipart form: named once, and nothing that only looks like it.
local function boundary_of(content_type)
  local kind = content_type:lower()
  local first = find(kind, 'boundary', 1, true)
  if not first or find(kind, 'boundary', first + 1, true) or not find(sub(kind, first - 1, first - 1), '[; ]') then return nil end
  local rest = sub(content_type, first + 8)
  local boundary = match(rest, '^="([%w\'()+_,./:=?-]+)"') or match(rest, "^=([%w'+_.-]+)")
  return boundary and #boundary <= 200 and '--' .. boundary or nil
end

-- The model of a multipart form. What is no plain form is refused: readers differ about it.
local function of_parts(text, content_type, is_whole)
  local boundary = boundary_of(content_type)
  if not boundary or sub(text, 1, #boundary) ~= boundary then return nil, 'form' end
  local model, at = nil, 1
  local function cut()
    if model then return model end
    return nil, is_whole and 'form' or 'late'
  end
  for _ = 1, MOST_PARTS do
    at = at + #boundary
    local next_two = sub(text, at, at + 1)
    if next_two == '--' then return model end
    if #next_two < 2 then return cut() end
    if next_two ~= '\r\n' then return nil, 'form' end
    local slice = sub(text, at + 2, at + LONGEST_HEAD)
    local blank = find(slice, '\r\n\r\n', 1, true)
    if not blank then
      if at + LONGEST_HEAD > #text then return cut() end
      return nil, 'form'
    end
    local name = part_name(sub(slice, 1, blank - 1))
    if not name then return nil, 'form' end
    local content = at + 2 + blank + 3
    -- The line break before a boundary belongs to it.
    local stop = find(text, boundary, content - 2, true)
    while stop and sub(text, stop - 2, stop - 1) ~= '\r\n' do stop = find(text, boundary, stop + #boundary, true) end
    if name == 'model' then
      if not stop then return cut() end
      local found = sub(text, content, stop - 3)
      if not is_model(found) then return nil, 'name' end
      if model and model ~= found then return nil, 'twice' end
      model = found
    end
    if not stop then return cut() end
    at = stop
  end
  if model then return model end
  return nil, 'many'
end

-- The model of a body; else why not; neither where it has none.
local function of_body(txn)
  local f = txn.sf
  local text = f:req_body()
  if #text == 0 then return nil end
  local encoding = f:req_fhdr('content-encoding')
  if encoding ~= '' and encoding:lower() ~= 'identity' or txn.f:req_fhdr_cnt('content-encoding') > 1 then
    return nil, 'encoded'
  end
  if txn.f:req_fhdr_cnt('content-type') > 1 then return nil, 'form' end
  -- Of a chunked body nobody knows the size: one that fills no small buffer has not been cut.
  local is_whole = txn.f:req_body_size() <= #text and (f:req_fhdr('content-length') ~= '' or #text < 8192)
  local content_type = f:req_fhdr('content-type')
  local kind = content_type:lower()
  if find(kind, '^%s*multipart/') then return of_parts(text, content_type, is_whole) end
  local at = find(text, BLANK)
  if sub(text, 1, 3) == '\xef\xbb\xbf' then at = find(text, BLANK, 4) end
  if not at then return nil end
  -- Also where it is called a form, as curl's -d does.
  if byte(text, at) == OPEN and byte(text, at + 1) ~= 0 then return of_json(text, at, is_whole) end
  if find(kind, '^%s*application/x%-www%-form') then
    if not is_whole then return nil, 'late' end
    return of_pairs(text)
  end
  -- JSON in another encoding than UTF-8, which some servers read.
  if find(text, '^[%z \t\r\n]*{') or byte(text, 1) >= 0xfe and find(kind, 'json', 1, true) then return nil, 'json' end
  return nil
end

-- The model that stands in the path of some APIs, and is the one that counts there.
local function of_path(method, path)
  local colon = method == 'POST' and find(path, ':%a+$') -- Gemini
  local stop = colon and select(2, find(path, '/models/', 1, true))
  if stop and stop < colon - 1 and not find(sub(path, stop + 1, colon - 1), ':', 1, true) then
    return sub(path, stop + 1, colon - 1)
  end
  return match(path, '/openai/deployments/([^/]+)/') -- Azure
    or match(path, '^/model/([^/]+)/') -- Bedrock
    or match(path, '^/v1/models/(.+)$') -- OpenAI
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

-- A refusal in the shape of the API that was called.
local function shaped(path, status, message)
  message = message:gsub('["\\]', '\\%0')
  if find(path, '/messages', 1, true) then
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

core.register_action('hapilot-model', { 'http-req' }, function(txn)
  local f = txn.sf
  local raw = f:path()
  local path = plain_path(raw)
  if not path then return refuse(txn, sub(raw, 1, 256), 400, BAD_PATH) end
  local model, why = of_path(f:method(), path), nil
  if model then
    if not is_model(model) then model, why = nil, 'name' end
  else
    model, why = of_body(txn)
    if not why then
      local asked, defect = of_pairs(f:query())
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
