-- What an answer costs in tokens, for clients whose plan limits them.
--
-- `http-request lua.hapilot-count`, the last rule of a frontend, begins the account of a request, and hands it to the filter of
-- the backend (`filter lua.hapilot-usage`) that is chosen next on this thread; for other requests the filter is nothing but a
-- call. `http-response lua.hapilot-read` has the answer read as it passes: never held back and never changed, with one
-- exception: where an OpenAI client of a stream did not ask for its usage, this asks for it and turns the additional event into
-- a comment of the same length.
--
-- Reads
--   txn.counting      how much of a token counts, in 1/10,000: PROMPT:CACHED:COMPLETION
--   txn.prices        what a token costs, in trillionths of a dollar: PROMPT:CACHED:WRITTEN:COMPLETION
--   txn.budget        set where the client has one
--   txn.usage_of      set where rules read the answer, if it fits into a buffer
--   txn.streams       set where the request asks for a stream
--   txn.asks_usage    set by backends whose servers know `stream_options`
--   txn.asked         beside it, how many bytes were asked with
--   txn.is_answered   set where there was an answer at all
-- Sets
--   txn.tokens_in, txn.tokens_cached, txn.tokens_out  tokens of the prompt, those of them out of a cache, of the answer
--   txn.tokens_written  of the prompt, into a cache at a price of its own
--   txn.nano_usd      what all of them cost, in billionths of a dollar
--   txn.tokens_are    `exact`, or `estimated` where the answer did not tell
--   txn.account       which account is this request's
--   txn.first_token   milliseconds from the request until the first token of a stream
-- and adds what was used to gpc 1, 2 and 3 of the client's entry (sc1), and what it cost to gpc 0 to 4 of the one for money (sc2)
-- where it has a budget, to the base of 64: programs in Lua can only add one at a time.

local find, sub, byte, rep, match, min, max = string.find, string.sub, string.byte, string.rep, string.match, math.min, math.max
local CONTINUE = filter.CONTINUE
local ASK = ',"stream_options":{"include_usage":true}'
local OPTIONS = '"stream_options"'
-- Largest request, in bytes, whose own `stream_options` are looked at.
local LARGEST_SEARCH = 65536
-- Of an answer that is no stream of events, this much of its end is kept: the usage stands there or at the beginning.
local TAIL = 4096
-- Longest piece of a stream that is waited for, in bytes: an event, or a line.
local LONGEST_EVENT, LONGEST_LINE = 8192, 65536
-- Longest usage, in bytes.
local LONGEST_USAGE = 2048
-- No request counts more: 4,096 steps of the last counter.
local MOST = 16777216
-- And costs no more, in billionths of a dollar (some $274): 16,384 steps.
local MOST_NANO_USD = 274877906944
-- What a token is taken for where nobody tells, in bytes; an event of a stream is one up to so many bytes.
local BYTES_PER_TOKEN, BYTES_PER_EVENT = 4, 400
-- An event that says more than this has more than one token.
local BYTES_PER_WORD = 6

-- How the providers spell it: OpenAI (two APIs), Anthropic, Gemini, Bedrock (two APIs), Ollama.
local PROMPT = { '"prompt_tokens"', '"input_tokens"', '"promptTokenCount"', '"inputTokens"', '"inputTokenCount"',
  '"prompt_eval_count"' }
local COMPLETION = { '"completion_tokens"', '"output_tokens"', '"candidatesTokenCount"', '"outputTokens"',
  '"outputTokenCount"', '"eval_count"' }
local CACHED = { '"cached_tokens"', '"cache_read_input_tokens"', '"cachedContentTokenCount"', '"cacheReadInputTokens"',
  '"prompt_cache_hit_tokens"' }
local TOTAL = { '"total_tokens"', '"totalTokenCount"' }
-- Beside the others: Gemini counts its thoughts and what its tools said apart; Anthropic and Bedrock do not count the cache
-- among the input.
local THOUGHTS, OF_TOOLS = { '"thoughtsTokenCount"' }, { '"toolUsePromptTokenCount"' }
local BESIDE_READ = { '"cache_read_input_tokens"', '"cacheReadInputTokens"' }
local BESIDE_WRITTEN = { '"cache_creation_input_tokens"', '"cacheWriteInputTokens"' }
local CONTENT = { '"content":%s*"[^"]', '"text":%s*"[^"]', '"reasoning_content":%s*"[^"]', '"reasoning":%s*"[^"]',
  '"thinking":%s*"[^"]', '"partial_json":%s*"[^"]', '"arguments":%s*"[^"]', '"delta":%s*"[^"]', '"response":%s*"[^"]' }

-- Paths at which nobody answers with tokens: an answer without a usage costs nothing there.
local FREE = { '/models', '/files', '/uploads', '/batches', '/audio/', '/images/', '/videos', '/moderations', '/tokenize',
  '/detokenize', '/count_tokens', ':countTokens', '/vector_stores', '/fine_tuning', '/containers' }

-- And how a path ends that is never one of them, wherever it begins.
local COSTLY = { 'completions?$', '/messages$', '/responses$', '/embeddings$', '/invoke[%a-]*$', '/converse[%a-]*$', ':%a+$' }

local function is_free(path)
  if find(path, '..', 1, true) or find(path, '%', 1, true) then return false end
  for i = 1, #COSTLY do
    if find(path, COSTLY[i]) and not find(path, ':countTokens$') then return false end
  end
  for i = 1, #FREE do
    if find(path, FREE[i], 1, true) then return true end
  end
  return false
end

local function number(text, names)
  for i = 1, #names do
    local _, last = find(text, names[i], 1, true)
    local digits = last and match(text, '^%s*:%s*(%d+)', last + 1)
    if digits then return min(tonumber(sub(digits, 1, 9)), MOST) end
  end
end

-- What is told in one object, or in the last line of Ollama.
local function read_usage(self, text)
  local prompt, completion = number(text, PROMPT), number(text, COMPLETION)
  if not prompt and not completion then prompt = number(text, TOTAL) end
  -- Never less than before: what counts, or says that it does, only grows.
  if prompt then
    local cached, written = number(text, CACHED) or 0, number(text, BESIDE_WRITTEN) or 0
    prompt = prompt + (number(text, BESIDE_READ) or 0) + (number(text, BESIDE_WRITTEN) or 0) + (number(text, OF_TOOLS) or 0)
    -- What is beside it belongs to the largest prompt, and of several to the last: the model may write something alike.
    if prompt >= (self.prompt or 0) then self.cached, self.written = cached, written end
    self.prompt = min(max(prompt, self.prompt or 0), MOST)
  end
  if completion then
    self.completion = min(max(completion + (number(text, THOUGHTS) or 0), self.completion or 0), MOST)
  end
  return prompt or completion
end

-- Of so many usages in one piece all are read, and then the last one: whoever repeats the word costs no time.
local MOST_USAGES = 50

local function read_object(self, text, at)
  local open = match(text, '^%a*"%s*:%s*(){', at)
  if not open then return end
  local object = sub(text, open, open + LONGEST_USAGE)
  return read_usage(self, match(object, '^%b{}') or object)
end

-- `"usage` cannot stand in a text of the model: quotes are escaped there, and the next character would be a backslash.
local function find_usage(self, text)
  local at, count, found = 1, 0, false
  while true do
    local _, last = find(text, '"usage', at, true)
    if not last then break end
    count, at = count + 1, last + 1
    if count <= MOST_USAGES then found = read_object(self, text, at) or found end
  end
  if count > MOST_USAGES then found = read_object(self, text, at) or found end
  if self.is_ollama then
    -- Behind the answer, and the last thing.
    local done = match(text, '^.*()"done"%s*:%s*true')
    if done then found = read_usage(self, sub(text, done, done + LONGEST_USAGE)) or found end
  end
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
  if not self.is_told and not self.has_asked then
    for word in string.gmatch(text, '"content":%s*"([^"]*)') do self.words = self.words + #word end
  end
  -- Where the account began with the answer alone, nobody knows.
  if count > 0 and self.began and not self.has_begun then
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

-- Adds to counters of an entry of the client, from one on.
local function add(txn, entry, first, numbers)
  local fetches = txn.f
  local increment = fetches.sc_inc_gpc
  for i = 1, #numbers do
    for _ = 1, numbers[i] do increment(fetches, first + i - 1, entry) end
  end
end

local function charge(self, txn)
  local prompt, cached, completion = match(self.counting, '^(%d+):(%d+):(%d+)$')
  if not prompt then return end
  local read = min(self.cached, self.prompt)
  local cost = (self.prompt - read) * tonumber(prompt) + read * tonumber(cached) + self.completion * tonumber(completion)
  cost = min((cost + 9999) // 10000, MOST)
  add(txn, 1, 1, { cost % 64, cost // 64 % 64, cost // 4096 })
end

local function charge_money(self, txn)
  local prompt, cached, written, completion = match(txn:get_var('txn.prices') or '', '^(%d+):(%d+):(%d+):(%d+)$')
  if not prompt then return end
  local read = min(self.cached, self.prompt)
  local into = min(self.written or 0, self.prompt - read)
  local cost = (self.prompt - read - into) * tonumber(prompt) + read * tonumber(cached) + into * tonumber(written)
    + self.completion * tonumber(completion)
  cost = min((cost + 500) // 1000, MOST_NANO_USD)
  txn:set_var('txn.tokens_written', into)
  txn:set_var('txn.nano_usd', cost)
  if txn:get_var('txn.budget') then
    add(txn, 2, 0, { cost % 64, cost // 64 % 64, cost // 4096 % 64, cost // 262144 % 64, cost // 16777216 })
  end
end

-- Of an answer that does not tell.
local function guess(self)
  if self.is_opaque or not self.mark then return self.is_text and self.bytes // BYTES_PER_TOKEN or 0 end
  -- The first and the last event have no token; one may have many.
  return max(self.pieces - 1, self.words // BYTES_PER_WORD, (self.bytes - self.pieces * BYTES_PER_EVENT) // BYTES_PER_TOKEN, 0)
end

local function finish(self, txn)
  if self.is_over or self.number and txn:get_var('txn.account') ~= self.number then return end
  self.is_over, self.end_analyze = true, nil
  if not self.is_read then
    -- Rules read it, or the client went away before an answer: then the server has its question.
    if txn:get_var('txn.is_answered') or not txn.f:srv_name() then return end
  elseif self.mark then
    if self.rest ~= '' then take_lines(self, txn, self.rest) end
  elseif not self.is_told then
    self.is_told = find_usage(self, self.head)
    self.is_told = find_usage(self, self.tail) or self.is_told
  end
  if not self.is_told then
    if not self.completion and is_free(self.path) then return end
    self.completion = max(self.completion or 0, guess(self))
  end
  self.prompt = min(self.prompt or self.asked // BYTES_PER_TOKEN, MOST)
  self.completion = min(self.completion or 0, MOST)
  self.cached = self.cached or 0
  txn:set_var('txn.tokens_in', self.prompt)
  txn:set_var('txn.tokens_cached', self.cached)
  txn:set_var('txn.tokens_out', self.completion)
  txn:set_var('txn.tokens_are', self.is_told and 'exact' or 'estimated')
  charge(self, txn)
  charge_money(self, txn)
end

---------------------------------------------------------------- the request

-- Whether what stands before a place is at the top level of an object.
local function is_at_top(text)
  local bare = text:gsub('\\.', ''):gsub('"[^"]*"', '')
  local _, opened = bare:gsub('[%[{]', '')
  local _, closed = bare:gsub('[%]}]', '')
  return opened - closed == 1
end

-- What a whole request must become to ask for its usage: from where, how many bytes, by what. Nothing: it asks by itself, or
-- is not understood.
local function edit_of(body)
  local last = find(body, '}%s*$')
  if not last then return end
  local first, behind = find(body, OPTIONS, 1, true)
  if not first then return last, 0, ASK end
  if #body > LARGEST_SEARCH or find(body, OPTIONS, behind, true) or not is_at_top(sub(body, 1, first - 1)) then return end
  local _, before = find(body, '^%s*:%s*', behind + 1)
  if not before then return end
  if sub(body, before + 1, before + 4) == 'null' then return before + 1, 4, '{"include_usage":true}' end
  local object = match(body, '^%b{}', before + 1)
  if not object or #object > 1024 then return end
  if find(object, '^{%s*}$') then return before + 1, #object, '{"include_usage":true}' end
  local value = match(object, '"include_usage"%s*:%s*()false')
  if value then return before + value, 5, 'true ' end
  if not find(object, '"include_usage"', 1, true) then return before + 2, 0, '"include_usage":true,' end
end

local function ask_usage(self, txn, message)
  if not txn:get_var('txn.asks_usage') or not find(self.path, '/completions$') then return end
  if txn.sf:req_hdr('content-encoding') ~= '' or not find(txn.sf:req_hdr('content-type'):lower(), 'json', 1, true) then return end
  local body, length = txn.sf:req_body(), tonumber(txn.sf:req_hdr('content-length'))
  local is_stream = txn:get_var('txn.streams')
  if not length or length == #body then
    if not is_stream then return end
    self.from, self.removes, self.text = edit_of(body)
    if not self.from then return end
    self.growth = #self.text - self.removes
  else
    -- Not all of it is here: the rest is looked at as it passes, and what is not needed of the growth is blanks.
    self.is_stream, self.growth = is_stream, #ASK
  end
  self.length, self.passed, self.last = length, 0, ''
  if length then
    if message.set_body_len then message:set_body_len(length + self.growth)
    -- HAProxy 2.6
    else txn.http:req_set_header('content-length', tostring(length + self.growth)) end
  end
  filter.register_data_filter(self, message.channel)
end

-- What is put in at the end of a request that did not come at once: what stands behind its last bracket is at the top level.
local function late_edit(self, body)
  local all = self.last .. body
  local top = match(all, '[%]}]([^%[%]{}]*)}%s*$')
  local is_stream = self.is_stream or top and find(top, '"stream"%s*:%s*true')
  local has_options = self.has_options or find(all, OPTIONS, 1, true)
  local brace = find(body, '}%s*$')
  local is_asked = brace and is_stream and not has_options and self.growth == #ASK
  return brace or #body + 1, 0, is_asked and ASK or rep(' ', self.growth), is_asked
end

-- Returns how many bytes may pass; nothing: all.
local function request_payload(self, _, message)
  if self.is_weighed then
    self.asked = self.asked + message:input()
    if not self.growth then return end
  end
  local body = message:body()
  if not body or body == '' then return end
  local is_last
  if self.length then is_last = self.passed + #body >= self.length else is_last = message:eom() end
  if not is_last then
    if not self.length then
      -- In chunks, and not whole.
      self.growth = nil
      return
    end
    -- A brace that may be the last one waits for what comes behind it.
    local brace = find(body, '}%s*$')
    local passes = brace and #body - brace < TAIL and brace - 1 or #body
    local seen = self.last .. sub(body, 1, passes)
    self.from, self.has_options = nil, self.has_options or find(seen, OPTIONS, 1, true)
    self.passed, self.last = self.passed + passes, sub(seen, -TAIL)
    return passes
  end
  local from, removes, text, is_asked = self.from, self.removes, self.text, true
  if not from then from, removes, text, is_asked = late_edit(self, body) end
  local done
  if removes == 0 then done = message:insert(text, from - 1) else done = message:set(text, from - 1, removes) end
  if done == -1 then
    -- No room: what stands before it goes first.
    if self.from then self.from = 1 else self.last = sub(self.last .. sub(body, 1, from - 1), -TAIL) end
    self.passed = self.passed + from - 1
    return from - 1
  end
  self.has_asked, self.growth = is_asked, nil
  if not self.is_weighed then filter.unregister_data_filter(self, message.channel) end
end

---------------------------------------------------------------- the answer

-- The additional event of a stream, once it is whole.
local function hide_usage(self, message, events)
  if not self.is_told or not find(events, '"choices"%s*:%s*%[%s*%]') then return end
  local at = 1
  while at <= #events do
    local _, last = find(events, '\r?\n\r?\n', at)
    last = last or #events
    local event = sub(events, at, last)
    if find(event, '"choices"%s*:%s*%[%s*%]') and find(event, '"usage"%s*:%s*{') then
      -- A line break each, at most: a pattern here would be quadratic in a run of them.
      local kept = #event
      while kept > #event - 4 and (byte(event, kept) == 10 or byte(event, kept) == 13) do kept = kept - 1 end
      message:set(':' .. rep(' ', kept - 1) .. sub(event, kept + 1), at - 1, #event)
    end
    at = last + 1
  end
end

local function take_stream(self, txn, text)
  self.bytes = self.bytes + #text
  text = self.rest .. text
  -- Anchored, or the time would be quadratic.
  local last = match(text, '^.*()\n') or 0
  if last > 0 then take_lines(self, txn, sub(text, 1, last)) end
  self.rest = sub(text, last + 1)
  if #self.rest > LONGEST_LINE then
    take_lines(self, txn, self.rest)
    self.rest = sub(self.rest, -TAIL)
  end
end

local function whole_events(self, txn, message, text)
  local behind = match(text, '^.*\n\r?\n()')
  local last = behind and behind - 1
  -- A server that just closes sets no end of the message.
  local is_last = message:eom() or not message:may_recv() and not message:is_full()
  -- Whatever comes last is whole.
  if is_last then last = #text end
  if not last then
    if #text < LONGEST_EVENT then return 0 end
    -- Too long to be waited for: nothing is hidden any more.
    self.has_asked = false
    return take_stream(self, txn, text)
  end
  local events = sub(text, 1, last)
  self.bytes = self.bytes + last
  take_lines(self, txn, events)
  hide_usage(self, message, events)
  if last == #text or is_last then return end
  return last
end

-- The usage stands at the beginning or at the end.
local function take_whole(self, message, count)
  self.bytes = self.bytes + count
  local text
  if not self.is_in then
    text = message:body() or ''
    self.head = self.head .. text
    self.is_in = #self.head >= TAIL
    if self.is_in and not find(self.head, '"usage', 1, true) then self.head = '' end
  end
  if self.answer_length and self.bytes < self.answer_length - TAIL then return end
  local tail = count >= TAIL and message:body(-TAIL) or self.tail .. (text or message:body() or '')
  self.tail = sub(tail, -TAIL)
end

local function response_payload(self, txn, message)
  local count = message:input()
  if count == 0 then return end
  if self.is_opaque then
    self.bytes = self.bytes + count
  elseif self.mark then
    local text = message:body()
    if not text or text == '' then return end
    if self.has_asked and self.mark == 'data:' then return whole_events(self, txn, message, text) end
    return take_stream(self, txn, text)
  else
    take_whole(self, message, count)
  end
end

---------------------------------------------------------------- what HAProxy calls

-- An error in Lua would cut the answer: the data pass instead.
local warnings = 0
local function guarded(self, what, txn, message)
  local is_well, result = pcall(what, self, txn, message)
  if is_well then return result end
  self.is_broken = true
  warnings = warnings + 1
  if warnings <= 10 then core.Warning('hapilot-usage: ' .. tostring(result)) end
end

-- HAProxy looks into this table once which callbacks there are, and into the account of a request each time when it calls them.
local Usage = { id = 'hapilot-usage', flags = filter.FLT_CFG_FL_HTX }

-- Of the request alone.
function Usage:http_headers(txn, message)
  self.http_headers = nil
  -- That of a request which then went to no backend.
  if txn:get_var('txn.account') ~= self.number then
    self.is_over, self.end_analyze = true, nil
    return CONTINUE
  end
  if txn.sf:req_hdr('content-length') == '' then
    self.is_weighed, self.asked = true, 0
    filter.register_data_filter(self, message.channel)
  end
  guarded(self, ask_usage, txn, message)
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

local headers, payload, at_end = Usage.http_headers, Usage.http_payload, Usage.end_analyze
-- The account of the request whose backend is chosen next; each thread has its own.
local next_one
local made = 0

function Usage:new()
  local account = next_one
  next_one = nil
  return account
end

local function begin(txn)
  -- Where rules read the answer, nearly always no more of it is needed.
  local account = { path = '' }
  if not txn:get_var('txn.usage_of') then
    made = made + 1
    account.number, account.began, account.path = made, txn.f:date(0, 'ms'), txn.sf:path()
    account.counting = txn:get_var('txn.counting')
    account.asked = max(tonumber(txn.sf:req_hdr('content-length')) or 0, txn.f:req_body_size() or 0)
    account.http_headers, account.http_payload, account.end_analyze = headers, payload, at_end
    txn:set_var('txn.account', made)
  end
  txn:set_priv(account)
  next_one = account
end

-- From here on.
local function read(txn)
  local self = txn:get_priv()
  -- None: an operator's own rule chose another way.
  if not self or self.is_over then return end
  if txn.f:status() >= 300 then
    self.is_over, self.end_analyze = true, nil
    return
  end
  self.counting = self.counting or txn:get_var('txn.counting')
  self.asked = self.asked or txn:get_var('txn.asked') or 0
  local prompt = tonumber(txn.sf:res_hdr('x-amzn-bedrock-input-token-count'))
  local completion = tonumber(txn.sf:res_hdr('x-amzn-bedrock-output-token-count'))
  if prompt and completion then self.prompt, self.completion, self.is_told = prompt, completion, true end
  local kind, encoding = txn.sf:res_hdr('content-type'):lower(), txn.sf:res_hdr('content-encoding')
  if find(kind, 'event-stream', 1, true) then self.mark = 'data:'
  elseif find(kind, 'ndjson', 1, true) or find(kind, 'jsonl', 1, true) then self.mark = '\n' end
  self.is_ollama = self.mark ~= 'data:' and find(self.path, '/api/', 1, true) ~= nil
  self.is_opaque = encoding ~= '' and encoding:lower() ~= 'identity'
  self.is_text = find(kind, 'json', 1, true) or find(kind, '^text/') or self.mark
  self.answer_length = tonumber(txn.sf:res_hdr('content-length'))
  self.is_read = true
  self.pieces, self.words, self.bytes, self.rest, self.head, self.tail = 0, 0, 0, '', '', ''
  self.http_payload, self.end_analyze = payload, at_end
  filter.register_data_filter(self, txn.res)
end

core.register_action('hapilot-count', { 'http-req' }, begin)
core.register_action('hapilot-read', { 'http-res' }, read)
core.register_filter('hapilot-usage', Usage, function(class) return class end)
