-- What an answer costs in tokens, for clients whose plan limits them.
--
-- Stands in backends as `filter lua.hapilot-usage`. The last rule of a frontend, `http-request lua.hapilot-count`, arms it
-- for the request that goes to a backend next on this thread; for others it is nothing but a call.
-- Answers are read as they pass and are never held back or changed, with one exception: where an OpenAI client of a
-- stream did not ask for its usage, this asks for it and turns the additional event into a comment of the same length.
--
-- Reads
--   txn.counting      how much of a token counts, in percent: PROMPT:CACHED:COMPLETION
--   txn.streams       set where the request asks for a stream
--   txn.asks_usage    set by backends whose servers know `stream_options`
-- Sets
--   txn.tokens_in, txn.tokens_cached, txn.tokens_out  tokens of the prompt, those of them out of a cache, of the answer
--   txn.tokens_are    `exact`, or `estimated` where the answer did not tell
--   txn.first_token   milliseconds from the request until the first token of a stream
-- and adds what was used to gpc 1, 2 and 3 of the client's entry (sc1), to the base of 64: programs in Lua can only add
-- one at a time.

local find, sub, byte, rep, match = string.find, string.sub, string.byte, string.rep, string.match
local CONTINUE = filter.CONTINUE
local at_end
local ASK = ',"stream_options":{"include_usage":true}'
-- Of an answer that is no stream of events, this much of its end is kept: the usage stands there or at the beginning.
local TAIL = 4096
-- Longest piece of a stream that is waited for, in bytes: an event, or a line.
local LONGEST_EVENT, LONGEST_LINE = 8192, 65536
-- Longest usage, in bytes.
local LONGEST_USAGE = 2048
-- No request counts more: 4,096 steps of the last counter.
local MOST = 16777216
-- What a token is taken for where nobody tells, in bytes.
local BYTES_PER_TOKEN = 4

-- How the providers spell it: OpenAI (two APIs), Anthropic, Gemini, Bedrock (two APIs), Ollama.
local PROMPT = { '"prompt_tokens"', '"input_tokens"', '"promptTokenCount"', '"inputTokens"', '"inputTokenCount"',
  '"prompt_eval_count"' }
local COMPLETION = { '"completion_tokens"', '"output_tokens"', '"candidatesTokenCount"', '"outputTokens"',
  '"outputTokenCount"', '"eval_count"' }
local CACHED = { '"cached_tokens"', '"cache_read_input_tokens"', '"cachedContentTokenCount"', '"cacheReadInputTokens"' }
-- Beside the others: Gemini counts its thoughts apart; Anthropic and Bedrock do not count the cache among the input.
local THOUGHTS = { '"thoughtsTokenCount"' }
local BESIDE_READ = { '"cache_read_input_tokens"', '"cacheReadInputTokens"' }
local BESIDE_WRITTEN = { '"cache_creation_input_tokens"', '"cacheWriteInputTokens"' }
local CONTENT = { '"content":%s*"[^"]', '"text":%s*"[^"]', '"reasoning_content":%s*"[^"]', '"reasoning":%s*"[^"]',
  '"thinking":%s*"[^"]', '"partial_json":%s*"[^"]', '"arguments":%s*"[^"]', '"delta":%s*"[^"]', '"response":%s*"[^"]' }

-- Paths at which nobody answers with tokens: an answer without a usage costs nothing there.
local FREE = { '/models', '/files', '/uploads', '/batches', '/audio/', '/images/', '/videos', '/moderations', '/tokenize',
  '/detokenize', '/count_tokens', ':countTokens', '/vector_stores', '/fine_tuning', '/containers' }

local function is_free(path)
  if find(path, '..', 1, true) or find(path, '%', 1, true) then return false end
  for i = 1, #FREE do
    if find(path, FREE[i], 1, true) then return not find(path, 'enerateContent$') end
  end
  return false
end

local function number(text, names)
  for i = 1, #names do
    local _, last = find(text, names[i], 1, true)
    local digits = last and match(text, '^%s*:%s*(%d+)', last + 1)
    if digits then return tonumber(sub(digits, 1, 8)) end
  end
end

-- What is told in one object, or in the last line of Ollama.
local function read_usage(self, text)
  local prompt, completion = number(text, PROMPT), number(text, COMPLETION)
  if prompt then
    local read = number(text, BESIDE_READ)
    self.cached = number(text, CACHED) or self.cached
    self.prompt = prompt + (read or 0) + (number(text, BESIDE_WRITTEN) or 0)
  end
  if completion then self.completion = completion + (number(text, THOUGHTS) or 0) end
  return prompt or completion
end

-- `"usage` cannot stand in a text of the model: quotes are escaped there, and the next character would be a backslash.
local function find_usage(self, text)
  local at, found = 1, false
  while true do
    local _, last = find(text, '"usage', at, true)
    if not last then break end
    if find(text, '^%a*"%s*:%s*{', last + 1) then
      local object = sub(text, last + 1, last + LONGEST_USAGE)
      found = read_usage(self, match(object, '%b{}') or object) or found
    end
    at = last + 1
  end
  if self.is_ollama and find(text, '"eval_count"', 1, true) then found = read_usage(self, sub(text, -LONGEST_USAGE)) or found end
  return found
end

-- Whole lines of a stream.
local function take_lines(self, txn, text)
  local at, count, mark = 1, 0, self.mark
  while true do
    local _, last = find(text, mark, at, true)
    if not last then break end
    count, at = count + 1, last + 1
  end
  self.pieces = self.pieces + count
  if count == 0 then return end
  if not self.has_begun then
    for i = 1, #CONTENT do
      if find(text, CONTENT[i]) then
        self.has_begun = true
        txn:set_var('txn.first_token', txn.f:date(0, 'ms') - self.began)
        break
      end
    end
  end
  if find_usage(self, text) then
    -- Anthropic's first event only says what the prompt was.
    local begin = find(text, '"message_start"', 1, true)
    if self.completion and (not begin or find(text, '"message_delta"', begin, true)) then self.is_told = true end
  end
end

-- Index of the last line break; 0 where there is none.
local function last_break(text)
  local at = #text
  while at > 0 and byte(text, at) ~= 10 do at = at - 1 end
  return at
end

-- Adds to the client's counters.
local function charge(self, txn)
  local prompt, cached, completion = match(self.counting, '^(%d+):(%d+):(%d+)$')
  if not prompt then return end
  local read = math.min(self.cached, self.prompt)
  local cost = (self.prompt - read) * tonumber(prompt) + read * tonumber(cached) + self.completion * tonumber(completion)
  cost = math.min((cost + 99) // 100, MOST)
  local fetches = txn.f
  local increment = fetches.sc_inc_gpc
  for counter, times in ipairs({ cost % 64, cost // 64 % 64, cost // 4096 }) do
    for _ = 1, times do increment(fetches, counter, 1) end
  end
end

local function finish(self, txn)
  if self.is_finished then return end
  self.is_finished, self.end_analyze = true, nil
  if self.rest and self.rest ~= '' then take_lines(self, txn, self.rest) end
  if not self.mark and not self.is_told then
    self.is_told = find_usage(self, self.head)
    self.is_told = find_usage(self, self.tail) or self.is_told
  end
  if not self.is_told then
    if not self.completion and is_free(self.path) then return end
    -- One piece of a stream is about one token; its first and its last have none.
    local guess = self.mark and math.max(self.pieces - 1, 0) or self.is_text and self.bytes // BYTES_PER_TOKEN or 0
    self.completion = math.max(self.completion or 0, guess)
  end
  self.prompt, self.completion, self.cached = self.prompt or self.asked // BYTES_PER_TOKEN, self.completion or 0, self.cached or 0
  txn:set_var('txn.tokens_in', self.prompt)
  txn:set_var('txn.tokens_cached', self.cached)
  txn:set_var('txn.tokens_out', self.completion)
  txn:set_var('txn.tokens_are', self.is_told and 'exact' or 'estimated')
  charge(self, txn)
end

-- The request is asked for its usage as well, where its client did not.
local function ask_usage(self, txn, message)
  if not txn:get_var('txn.streams') or not txn:get_var('txn.asks_usage') then return end
  if not find(self.path, '/completions$') or txn.sf:req_hdr('content-encoding') ~= '' then return end
  local body = txn.sf:req_body()
  if #body == 0 or #body ~= txn.f:req_body_size() or find(body, '"stream_options"', 1, true) or not find(body, '}%s*$') then return end
  local length = txn.sf:req_hdr('content-length')
  if length ~= '' then
    if tonumber(length) ~= #body then return end
    length = #body + #ASK
    if message.set_body_len then message:set_body_len(length)
    -- HAProxy 2.6
    else txn.http:req_set_header('content-length', tostring(length)) end
  end
  self.asks = true
  filter.register_data_filter(self, message.channel)
end

local function request_headers(self, txn, message)
  self.counting = txn:get_var('txn.counting')
  -- It was armed for another one, which then went to no backend.
  if not self.counting or txn:get_var('txn.usage_of') then
    self.http_headers, self.http_payload = nil, nil
    return
  end
  self.began, self.path = txn.f:date(0, 'ms'), txn.sf:path()
  self.asked = math.max(tonumber(txn.sf:req_hdr('content-length')) or 0, txn.f:req_body_size() or 0)
  ask_usage(self, txn, message)
end

local function response_headers(self, txn, message)
  local status = txn.f:status()
  if status < 200 then return end
  self.http_headers = nil
  if status >= 300 or txn.sf:method() == 'HEAD' then return end
  local prompt = tonumber(txn.sf:res_hdr('x-amzn-bedrock-input-token-count'))
  local completion = tonumber(txn.sf:res_hdr('x-amzn-bedrock-output-token-count'))
  if prompt and completion then self.prompt, self.completion, self.is_told = prompt, completion, true end
  local kind, encoding = txn.sf:res_hdr('content-type'):lower(), txn.sf:res_hdr('content-encoding')
  if find(kind, 'event-stream', 1, true) then self.mark = 'data:'
  elseif find(kind, 'ndjson', 1, true) or find(kind, 'jsonl', 1, true) then self.mark = '\n' end
  self.is_ollama = self.mark ~= 'data:' and find(self.path, '/api/', 1, true) ~= nil
  self.is_opaque = encoding ~= '' and encoding:lower() ~= 'identity'
  self.is_text = find(kind, 'json', 1, true) or find(kind, '^text/')
  self.length = tonumber(txn.sf:res_hdr('content-length'))
  self.pieces, self.bytes, self.rest, self.head, self.tail = 0, 0, '', '', ''
  self.end_analyze = at_end
  filter.register_data_filter(self, message.channel)
end

-- Returns how many bytes may pass; nothing: all.
local function request_payload(self, _, message)
  local body = message:body()
  if not body or body == '' then return end
  local at = #body
  while at > 0 and byte(body, at) ~= 125 do at = at - 1 end
  if at == 0 then return end
  -- No room: what stands before it goes first.
  if message:insert(ASK, at - 1) == -1 then return at - 1 end
  self.has_asked = true
  filter.unregister_data_filter(self, message.channel)
end

-- The additional event of a stream, once it is whole.
local function hide_usage(self, message, events)
  if not self.is_told or not find(events, '"choices"%s*:%s*%[%s*%]') then return end
  local at = 1
  while at <= #events do
    local _, last = find(events, '\r?\n\r?\n', at)
    last = last or #events
    local event = sub(events, at, last)
    if find(event, '"choices"%s*:%s*%[%s*%]') and find(event, '"usage"%s*:%s*{') then
      local ending = match(event, '[\r\n]*$')
      message:set(':' .. rep(' ', #event - #ending - 1) .. ending, at - 1, #event)
    end
    at = last + 1
  end
end

local function whole_events(self, txn, message, text)
  local last
  for at = #text, 1, -1 do
    if byte(text, at) == 10 and (byte(text, at - 1) == 10 or byte(text, at - 1) == 13 and byte(text, at - 2) == 10) then
      last = at
      break
    end
  end
  -- A server that just closes sets no end of the message.
  local is_last = message:eom() or not message:may_recv() and not message:is_full()
  if not last then
    if #text < LONGEST_EVENT and not is_last then return 0 end
    last = #text
  end
  local events = sub(text, 1, last)
  take_lines(self, txn, events)
  hide_usage(self, message, events)
  if last == #text or is_last then return end
  return last
end

local function take_stream(self, txn, text)
  text = self.rest .. text
  local last = last_break(text)
  if last > 0 then take_lines(self, txn, sub(text, 1, last)) end
  self.rest = sub(text, last + 1)
  if #self.rest > LONGEST_LINE then self.rest = sub(self.rest, -TAIL) end
end

-- The usage stands at the beginning or at the end.
local function take_whole(self, message, count)
  local text
  if not self.is_in then
    text = message:body() or ''
    self.head = self.head .. text
    self.is_in = #self.head >= TAIL
    if self.is_in and not find(self.head, '"usage', 1, true) then self.head = '' end
  end
  if self.length and self.bytes < self.length - TAIL then return end
  local tail = count >= TAIL and message:body(-TAIL) or self.tail .. (text or message:body() or '')
  self.tail = sub(tail, -TAIL)
end

local function response_payload(self, txn, message)
  local count = message:input()
  if count == 0 then return end
  if not self.is_opaque and self.mark then
    local text = message:body()
    if not text or text == '' then return end
    if self.has_asked and self.mark == 'data:' then return whole_events(self, txn, message, text) end
    return take_stream(self, txn, text)
  end
  self.bytes = self.bytes + count
  if not self.is_opaque and not self.is_told then take_whole(self, message, count) end
end

-- An error in Lua would cut the answer: the data pass instead.
local warnings = 0
local function guarded(self, what, txn, message)
  local is_well, result = pcall(what, self, txn, message)
  if is_well then return result end
  self.is_broken = true
  warnings = warnings + 1
  if warnings <= 10 then core.Warning('hapilot-usage: ' .. tostring(result)) end
end

-- HAProxy looks into this table once which callbacks there are, and into the instance each time when it calls them.
local Usage = { id = 'hapilot-usage', flags = filter.FLT_CFG_FL_HTX }

function Usage:http_headers(txn, message)
  guarded(self, message.channel:is_resp() and response_headers or request_headers, txn, message)
  return CONTINUE
end

function Usage:http_payload(txn, message)
  if self.is_broken then
    filter.unregister_data_filter(self, message.channel)
    return
  end
  local passes = guarded(self, message.channel:is_resp() and response_payload or request_payload, txn, message)
  -- `return nil` would mean that nothing may pass.
  if passes then return passes end
end

-- Once for each direction, also where somebody hung up.
function Usage:end_analyze(txn, channel)
  if channel:is_resp() then guarded(self, finish, txn) end
  return CONTINUE
end

local headers, payload = Usage.http_headers, Usage.http_payload
at_end = Usage.end_analyze

-- Each thread has its own.
local is_armed = false

function Usage:new()
  if not is_armed then return nil end
  is_armed = false
  return { http_headers = headers, http_payload = payload }
end

core.register_action('hapilot-count', { 'http-req' }, function() is_armed = true end)
core.register_filter('hapilot-usage', Usage, function(class) return class end)
