-- The records of transfers that clients submit. Their elements are marked by the highest bit of their first byte; those of a
-- load have no record, and cost nothing here. Keys, beside those of the steps:
--
--   live          by id: the entry of each without an end     ended:N:B  by id: of those with one, slice N, bucket B
--   slices        by number: start, buckets, entries          details    by birth: the element and the events of each
--   transactions  by hash: the ids in it                      counts     how many are, or came to be, in each state
--   spent         by client: a day, and what was spent        old        births without an end whose window is over
--   second:S, latency:S  what the last minute brought
--
-- An entry is 64 bytes, and a bucket is kept below 128 of them, so that Redis packs it (hash-max-listpack-value, -entries).
-- Those with an end are in slices of time, which Redis lets go of whole; a slice that fills up sooner is followed by one with
-- more buckets.

local QUEUED, SIGNED, SUBMITTED, FINALIZED, FAILED, CANCELLED, NEEDS_REVIEW = 0, 1, 2, 3, 4, 5, 6
-- By the number of a fate.
local FATES = {[0] = FINALIZED, FAILED, QUEUED, NEEDS_REVIEW}
-- Places in the table of errors, from 1.
local FAILED_OF_ITSELF, NO_PROOF = 1, 2

local ENTRY = '>c16BBI5I4I5c32'
local EVENT = '>BI5c32'
local EVENT_BYTES = 38
local MAX_EVENTS = 32
-- No transaction: 32 zeros. While the library is loaded there is no string.rep.
local NONE = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'

-- Slices of a window; its buckets at first, and entries that each is to have.
local SLICES = 7
local BUCKETS = 16384
local MOST_BUCKETS = 1048576
local TO_A_BUCKET = 64
-- Births that a page looks at.
local LOOKS = 1000
local DAY = 86400000
local MINUTE = 120

local function now_ms(s) return math.floor(s.now / 1000) end

local function is_final(state) return state >= FINALIZED end

local function is_marked(element) return string.byte(element) >= 128 end

local function id_of(element) return string.sub(element, 2, 17) end

-- What all steps on records need of the store.
local function load(s)
    if s.epoch then return end
    local about = call('HMGET', s.at .. 'about', 'epoch', 'idempotency', 'details', 'births', 'kept')
    s.epoch, s.idempotency, s.details = tonumber(about[1]), tonumber(about[2]), tonumber(about[3])
    s.births, s.kept = tonumber(about[4] or 0), tonumber(about[5] or 0)
    s.slices, s.moved = {}, {}
    local all = call('HGETALL', s.at .. 'slices')
    for i = 1, #all, 2 do
        local start, buckets, entries = string.match(all[i + 1], '(%d+):(%d+):(%d+)')
        s.slices[#s.slices + 1] = {
            number = tonumber(all[i]), start = tonumber(start), buckets = tonumber(buckets), entries = tonumber(entries),
        }
    end
    table.sort(s.slices, function(a, b) return a.number > b.number end)
end

local function is_over(window, created, now) return now - created >= window end

local function count(s, state, by)
    s.moved[state] = (s.moved[state] or 0) + by
end

-- Writes what was counted.
local function keep_counts(s)
    for state, by in pairs(s.moved) do
        if by ~= 0 then call('HINCRBY', s.at .. 'counts', state, by) end
    end
    s.moved = {}
end

local function pack_entry(s, e)
    local created = math.max(0, e.created - s.epoch)
    local later = math.min(4294967295, math.max(0, e.updated - e.created))
    return struct.pack(ENTRY, e.digest, e.state * 32 + e.error, math.min(e.attempts, 255), created, later, e.birth, e.tx)
end

local function unpack_entry(s, text)
    local digest, status, attempts, created, later, birth, tx = struct.unpack(ENTRY, text)
    created = created + s.epoch
    return {
        digest = digest, state = math.floor(status / 32), error = status % 32, attempts = attempts, created = created,
        updated = created + later, birth = birth, tx = tx,
    }
end

local function bucket(s, slice, id)
    local a, b, c = string.byte(id, 1, 3)
    return s.at .. 'ended:' .. slice.number .. ':' .. (a * 65536 + b * 256 + c) % slice.buckets
end

local function slice_time(s) return math.ceil(s.idempotency / SLICES) end

local function keep_slice(s, slice)
    call('HSET', s.at .. 'slices', slice.number, slice.start .. ':' .. slice.buckets .. ':' .. slice.entries)
end

-- The slice that takes entries now. Those that Redis let go of are forgotten.
local function newest(s)
    local now, length = now_ms(s), slice_time(s)
    local slice = s.slices[1]
    local is_full = slice and slice.entries >= slice.buckets * TO_A_BUCKET
    if slice and not is_full and now < slice.start + length then return slice end
    local buckets = BUCKETS
    if is_full then buckets = math.min(slice.buckets * 4, MOST_BUCKETS) end
    slice = {number = slice and slice.number + 1 or 0, start = now, buckets = buckets, entries = 0}
    table.insert(s.slices, 1, slice)
    while #s.slices > 1 and s.slices[#s.slices].start + length + s.idempotency <= now do
        call('HDEL', s.at .. 'slices', table.remove(s.slices).number)
    end
    return slice
end

-- Puts an entry among those with an end.
local function put_ended(s, id, e)
    local slice = newest(s)
    local key = bucket(s, slice, id)
    call('HSET', key, id, pack_entry(s, e))
    call('PEXPIRE', key, math.max(1, slice.start + slice_time(s) + s.idempotency - now_ms(s)), 'NX')
    slice.entries = slice.entries + 1
end

local function in_chunks(list, each)
    for from = 1, #list, CHUNK do each(from, {unpack(list, from, math.min(from + CHUNK - 1, #list))}) end
end

-- HMGET of any number of fields.
local function hmget(key, fields)
    local values = {}
    in_chunks(fields, function(from, some)
        for i, value in ipairs(call('HMGET', key, unpack(some))) do values[from + i - 1] = value end
    end)
    return values
end

-- The entries of `ids`, at their places; those with an end know their bucket.
local function entries(s, ids)
    local found, now = {}, now_ms(s)
    for i, text in pairs(hmget(s.at .. 'live', ids)) do
        if text then
            found[i] = unpack_entry(s, text)
        else
            for _, slice in ipairs(s.slices) do
                local key = bucket(s, slice, ids[i])
                local ended = call('HGET', key, ids[i])
                if ended then
                    local e = unpack_entry(s, ended)
                    e.bucket = key
                    if not is_over(s.idempotency, e.created, now) then found[i] = e end
                    break
                end
            end
        end
    end
    return found
end

local function event(s, state, at, tx)
    return struct.pack(EVENT, state, math.max(0, at - s.epoch), tx or NONE)
end

local function element_of(details)
    return string.sub(details, 3, 2 + struct.unpack('>I2', details))
end

local function events_of(details)
    return string.sub(details, 3 + struct.unpack('>I2', details))
end

local function details_of(element, events)
    return struct.pack('>I2', #element) .. element .. events
end

local function add_event(s, details, state, at, tx)
    local events = events_of(details)
    if #events >= MAX_EVENTS * EVENT_BYTES then
        local half = MAX_EVENTS / 2 * EVENT_BYTES
        events = string.sub(events, 1, half) .. string.sub(events, half + EVENT_BYTES + 1)
    end
    return details_of(element_of(details), events .. event(s, state, at, tx))
end

local function drop_details(s, birth, details)
    call('HDEL', s.at .. 'details', birth)
    call('ZREM', s.at .. 'old', birth)
    local events = events_of(details)
    for at = 1, #events, EVENT_BYTES do
        local _, _, tx = struct.unpack(EVENT, events, at)
        if tx ~= NONE then call('HDEL', s.at .. 'transactions', tx) end
    end
end

-- Lets go of details whose window is over, `most` at once. What has no end yet keeps them until then.
local function forget_details(s, most)
    local now = now_ms(s)
    for _ = 1, most do
        if s.kept >= s.births then return end
        local details = call('HGET', s.at .. 'details', s.kept)
        if details then
            local _, created = struct.unpack(EVENT, events_of(details))
            if not is_over(s.details, created + s.epoch, now) then return end
            if call('HEXISTS', s.at .. 'live', id_of(element_of(details))) == 0 then
                drop_details(s, s.kept, details)
            else
                call('ZADD', s.at .. 'old', s.kept, s.kept)
            end
        end
        s.kept = s.kept + 1
    end
end

-- The bucket of a latency, as recent.rs has it.
local function latency_bucket(ms)
    ms = math.max(ms, 1)
    local _, exponent = math.frexp(ms)
    local octave = exponent - 1
    return math.min(octave * 8 + math.floor(ms / 2 ^ (octave - 3)) % 8, 160)
end

local function lately(s, kind, at, field, by)
    local key = s.at .. kind .. ':' .. at
    call('HINCRBY', key, field, by)
    call('EXPIRE', key, MINUTE, 'NX')
end

-- Takes transfers from where they are to a state each: {id, state, error, tx, signs}. Those without a record stay without.
local function move(s, moves)
    load(s)
    local ids, now = {}, now_ms(s)
    for i, m in ipairs(moves) do ids[i] = m.id end
    local found, births, of = hmget(s.at .. 'live', ids), {}, {}
    for i, text in pairs(found) do
        if text then
            local e = unpack_entry(s, text)
            births[#births + 1], of[#of + 1] = e.birth, {moves[i], e}
        end
    end
    if #of == 0 then return end
    local details = hmget(s.at .. 'details', births)
    local live, kept, ended, latencies = {}, {}, {}, {}
    for i, pair in ipairs(of) do
        local m, e = pair[1], pair[2]
        local at = math.max(now, e.updated)
        count(s, e.state, -1)
        count(s, m.state, 1)
        e.state, e.updated, e.error = m.state, at, m.error or e.error
        if m.signs then e.tx, e.attempts = m.tx, e.attempts + 1 end
        local changed = details[i] and add_event(s, details[i], m.state, at, m.tx)
        if is_final(m.state) then
            ended[#ended + 1] = m.id
            if m.state == FINALIZED then
                local ms = latency_bucket(math.max(0, now - e.created))
                latencies[ms] = (latencies[ms] or 0) + 1
            end
            if changed and is_over(s.details, e.created, now) then
                drop_details(s, e.birth, changed)
                changed = nil
            end
            if not is_over(s.idempotency, e.created, now) then put_ended(s, m.id, e) end
        else
            live[#live + 1], live[#live + 2] = m.id, pack_entry(s, e)
        end
        if changed then kept[#kept + 1], kept[#kept + 2] = e.birth, changed end
    end
    append('HSET', s.at .. 'live', live)
    append('HDEL', s.at .. 'live', ended)
    append('HSET', s.at .. 'details', kept)
    for ms, times in pairs(latencies) do lately(s, 'latency', math.floor(now / 10000), ms, times) end
    if #ended > 0 and s.slices[1] then keep_slice(s, s.slices[1]) end
    keep_counts(s)
end

local function marked(elements, each)
    local moves = {}
    for i = 1, #elements do
        if is_marked(elements[i]) then moves[#moves + 1] = each(i, id_of(elements[i])) end
    end
    return moves
end

-- What an attempt of this hash carries from now on.
function book.signed(s, tx, elements)
    local moves = marked(elements, function(_, id) return {id = id, state = SIGNED, tx = tx, signs = true} end)
    if #moves == 0 then return end
    move(s, moves)
    local ids = {}
    for i = 1, #elements do ids[i] = id_of(elements[i]) end
    call('HSET', s.at .. 'transactions', tx, table.concat(ids))
end

-- How a settlement's text begins: the fate of all, or the place of the only one that failed.
local function fates(text, from)
    local kind, value = string.byte(text, from, from + 1)
    if kind == 0 then return FATES[value] end
    local place, factor, at = 0, 1, from + 1
    while true do
        local byte = string.byte(text, at)
        place = place + byte % 128 * factor
        if byte < 128 then return nil, place end
        factor, at = factor * 128, at + 1
    end
end

function book.settled(s, tx, elements, text, code)
    local all, failed = fates(text, 1)
    local second = math.floor(now_ms(s) / 1000)
    if #elements > 0 then
        if all == FINALIZED then lately(s, 'second', second, 'finalized', #elements) end
        if all == FAILED then lately(s, 'second', second, 'failed', #elements) end
        if failed and failed < #elements then lately(s, 'second', second, 'failed', 1) end
    end
    local moves = marked(elements, function(i, id)
        local state = all
        if failed then state = i - 1 == failed and FAILED or QUEUED end
        local error = 0
        if state == FAILED then error = tonumber(code) end
        if state == NEEDS_REVIEW then error = NO_PROOF end
        return {id = id, state = state, error = error, tx = tx}
    end)
    if #moves > 0 then move(s, moves) end
end

function book.cancelled(s, elements)
    local moves = marked(elements, function(_, id) return {id = id, state = CANCELLED} end)
    if #moves > 0 then move(s, moves) end
end

-- What was found on chain of an element that was queued here, by the number of its fate.
function book.imported(s, element, fate, tx)
    if not is_marked(element) then return end
    local state = FATES[tonumber(fate)]
    local error = 0
    if state == FAILED then error = FAILED_OF_ITSELF end
    if state == NEEDS_REVIEW then error = NO_PROOF end
    move(s, {{id = id_of(element), state = state, error = error, tx = tx, signs = true}})
end

local function sent(keys, argv)
    local s = begin(keys, argv)
    if call('EXISTS', s.at .. 'live') == 0 then return done(s, 'OK') end
    s.changed = true
    local moves = {}
    for _, packed in pairs(hmget(s.at .. 'attempts', {unpack(argv, 3)})) do
        if packed then
            local a = cmsgpack.unpack(packed)
            local tx = string.sub(a[2], 1, 32)
            for _, m in ipairs(marked(rest(a, 5), function(_, id) return {id = id, state = SUBMITTED, tx = tx} end)) do
                moves[#moves + 1] = m
            end
        end
    end
    -- Sent again, it was sent before.
    load(s)
    local ids, first = {}, {}
    for i, m in ipairs(moves) do ids[i] = m.id end
    for i, text in pairs(hmget(s.at .. 'live', ids)) do
        if text and unpack_entry(s, text).state == SIGNED then first[#first + 1] = moves[i] end
    end
    if #first > 0 then move(s, first) end
    return done(s, 'OK')
end

-- The sum of two decimal texts.
local function add(a, b)
    local digits, out, carry = 14, {}, 0
    while #a > 0 or #b > 0 or carry > 0 do
        local sum = (tonumber(string.sub(a, -digits)) or 0) + (tonumber(string.sub(b, -digits)) or 0) + carry
        carry = sum >= 1e14 and 1 or 0
        table.insert(out, 1, string.format('%014.0f', sum - carry * 1e14))
        a, b = string.sub(a, 1, -digits - 1), string.sub(b, 1, -digits - 1)
    end
    local text = string.gsub(table.concat(out), '^0+', '')
    return text == '' and '0' or text
end

-- Spends within a day's cap; whether it is within.
local function spend(s, spent, client, cap, amount)
    local today = math.floor(now_ms(s) / DAY)
    local before = spent[client] or call('HGET', s.at .. 'spent', client) or '0:0'
    local day, sum = string.match(before, '(%d+):(%d+)')
    if today > tonumber(day) then day, sum = today, '0' end
    sum = add(sum, amount)
    if below(cap, sum) then return false end
    spent[client] = day .. ':' .. sum
    return true
end

-- What a step of this token answered lately.
local function recall(s, token)
    for turn = 0, 1 do
        local answer = call('HGET', s.at .. 'settled:' .. turn, token)
        if answer then return answer end
    end
end

-- How a result begins that waits for its record: its kind, its transaction, a nonce, a settlement.
local function read_start(start)
    if start == '' then return FINALIZED, NONE end
    local at = 34
    while string.byte(start, at) >= 128 do at = at + 1 end
    return fates(start, at + 1) or FINALIZED, string.sub(start, 2, 33)
end

-- The token, how deep the queue may become; of each submission its element, its digest, its client, that one's cap, its amount.
local function accept(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    if not whole(s) then return done(s, 'RESTORED') end
    load(s)
    local token, most, now = argv[3], tonumber(argv[4]), now_ms(s)
    local ids = {}
    for i = 5, #argv, 5 do ids[#ids + 1] = id_of(argv[i]) end
    local found, letters = entries(s, ids), recall(s, token)
    if not letters then
        forget_details(s, 2 * #ids + 16)
        local queue, here, out, spent = s.at .. 'queue', {}, {}, {}
        local depth = call('LLEN', queue)
        local was, filtered = depth, call('EXISTS', s.at .. 'imported') == 1
        local fresh, live, details = {}, {}, {}
        for i, id in ipairs(ids) do
            local at = 5 * i
            local element, digest, client, cap, amount = unpack(argv, at, at + 4)
            local e = found[i] or here[id]
            found[i] = e
            local start = not e and filtered and call('HGET', s.at .. 'imported', id)
            if e then
                out[i] = e.digest == digest and 'R' or 'C'
            elseif start then
                -- It was paid, and nobody knew any more.
                local state, tx = read_start(start)
                not_paid_yet(s, {element})
                local error = state == FAILED and FAILED_OF_ITSELF or state == NEEDS_REVIEW and NO_PROOF or 0
                e = {digest = digest, state = state, error = error, attempts = 1, created = now, updated = now,
                    birth = s.births, tx = tx}
                s.births = s.births + 1
                details[#details + 1], details[#details + 2] = e.birth, details_of(element, event(s, state, now, tx))
                put_ended(s, id, e)
                keep_slice(s, s.slices[1])
                count(s, state, 1)
                here[id], found[i], out[i] = e, e, 'R'
            elseif depth >= most then
                out[i] = 'F'
            elseif client ~= '' and not spend(s, spent, client, cap, amount) then
                out[i] = 'O'
            else
                e = {digest = digest, state = QUEUED, error = 0, attempts = 0, created = now, updated = now,
                    birth = s.births, tx = NONE}
                s.births, depth = s.births + 1, depth + 1
                fresh[#fresh + 1] = element
                live[#live + 1], live[#live + 2] = id, pack_entry(s, e)
                details[#details + 1], details[#details + 2] = e.birth, details_of(element, event(s, QUEUED, now))
                count(s, QUEUED, 1)
                here[id], found[i], out[i] = e, e, 'N'
            end
        end
        append('RPUSH', queue, fresh)
        append('HSET', s.at .. 'live', live)
        append('HSET', s.at .. 'details', details)
        for client, sum in pairs(spent) do call('HSET', s.at .. 'spent', client, sum) end
        if #fresh > 0 then
            lately(s, 'second', math.floor(now / 1000), 'accepted', #fresh)
            if was == 0 then call('PUBLISH', s.at .. 'work', '') end
        end
        keep_counts(s)
        call('HSET', s.at .. 'about', 'births', s.births, 'kept', s.kept)
        letters = table.concat(out)
        remember(s, token, letters)
    end
    local births, places, replayed = {}, {}, {}
    for i = 1, #ids do
        local e = found[i]
        -- Asked again, what was new then is known now.
        if string.sub(letters, i, i) == 'R' and e then
            births[#births + 1], places[#places + 1] = e.birth, i
        end
    end
    local details = hmget(s.at .. 'details', births)
    for n, i in ipairs(places) do replayed[n] = {pack_entry(s, found[i]), details[n] or ''} end
    return done(s, 'OK', s.epoch, now, letters, replayed)
end

-- Of those that are known: their entries and details.
local function records_of(s, ids)
    local found, births, at, out = entries(s, ids), {}, {}, {}
    for i = 1, #ids do
        if found[i] then births[#births + 1], at[#at + 1] = found[i].birth, i end
    end
    local details = hmget(s.at .. 'details', births)
    for i = 1, #ids do out[i] = '' end
    for n, i in ipairs(at) do out[i] = {pack_entry(s, found[i]), details[n] or ''} end
    return out
end

local function find(keys, argv)
    local s = begin(keys, argv)
    load(s)
    return done(s, 'OK', s.epoch, records_of(s, {unpack(argv, 3)}))
end

-- Records with details, newest first, before birth `argv[3]`, up to `argv[4]` of them; and where to go on, if anywhere.
local function list(keys, argv)
    local s = begin(keys, argv)
    load(s)
    local before = s.births
    if argv[3] ~= '' then before = math.min(before, tonumber(argv[3])) end
    local most, looked, out = tonumber(argv[4]), 0, {}
    while before > 0 and looked < LOOKS and #out < most do
        local births = {}
        for birth = before - 1, math.max(s.kept, before - 100), -1 do births[#births + 1] = birth end
        if before <= s.kept then
            births = call('ZREVRANGEBYSCORE', s.at .. 'old', '(' .. before, '-inf', 'LIMIT', 0, 100)
        end
        looked, before = looked + #births, tonumber(births[#births] or 0)
        local details, ids, place = hmget(s.at .. 'details', births), {}, {}
        for i = 1, #births do
            if details[i] then ids[#ids + 1], place[#place + 1] = id_of(element_of(details[i])), i end
        end
        local found = entries(s, ids)
        for n = 1, #ids do
            local birth, e = tonumber(births[place[n]]), found[n]
            if e and e.birth == birth then
                if #out == most then
                    before = birth + 1
                    break
                end
                out[#out + 1] = {birth, ids[n], pack_entry(s, e), details[place[n]]}
            end
        end
    end
    return done(s, 'OK', s.epoch, out, before > 0 and before or '')
end

local function transaction(keys, argv)
    local s = begin(keys, argv)
    return done(s, 'OK', call('HGET', s.at .. 'transactions', argv[3]) or '')
end

-- The token and the id.
local function cancel(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    if not whole(s) then return done(s, 'RESTORED') end
    reap(s)
    load(s)
    local token, id = argv[3], argv[4]
    local known = recall(s, token)
    if known then return done(s, 'OK', s.epoch, {known, records_of(s, {id})[1]}) end
    local before = records_of(s, {id})[1]
    if before == '' then return done(s, 'UNKNOWN') end
    local e = unpack_entry(s, before[1])
    local element = before[2] ~= '' and element_of(before[2])
    if e.state ~= QUEUED or not element or call('LREM', s.at .. 'queue', 1, element) == 0 then
        return done(s, 'REFUSED', s.epoch, {before, ''})
    end
    call('XADD', s.at .. 'results', '*', 'row', '\1' .. records({element}))
    book.cancelled(s, {element})
    -- One whose windows are over is gone with its end.
    e.state = CANCELLED
    local gone = {pack_entry(s, e), before[2]}
    remember(s, token, cmsgpack.pack(gone))
    return done(s, 'OK', s.epoch, {gone, records_of(s, {id})[1]})
end

-- The token, the id, and the element to put into the queue.
local function retry(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    if not whole(s) then return done(s, 'RESTORED') end
    load(s)
    local token, id, element = argv[3], argv[4], argv[5]
    if not recall(s, token) then
        local e = entries(s, {id})[1]
        if not e then return done(s, 'UNKNOWN') end
        local details = call('HGET', s.at .. 'details', e.birth)
        if e.state ~= FAILED or not details then
            return done(s, 'REFUSED', s.epoch, {{pack_entry(s, e), details or ''}, ''})
        end
        local at = math.max(now_ms(s), e.updated)
        call('HDEL', e.bucket, id)
        count(s, FAILED, -1)
        count(s, QUEUED, 1)
        keep_counts(s)
        e.state, e.error, e.updated = QUEUED, 0, at
        details = add_event(s, details, QUEUED, at)
        call('HSET', s.at .. 'live', id, pack_entry(s, e))
        call('HSET', s.at .. 'details', e.birth, details_of(element, events_of(details)))
        if call('RPUSH', s.at .. 'queue', element) == 1 then call('PUBLISH', s.at .. 'work', '') end
        remember(s, token, '')
    end
    return done(s, 'OK', s.epoch, {'', records_of(s, {id})[1]})
end

local function append_to(list, more)
    for i = 1, #more do list[#list + 1] = more[i] end
end

local function census(keys, argv)
    local s = begin(keys, argv)
    reap(s)
    load(s)
    local now, oldest = now_ms(s), ''
    local first = call('LINDEX', s.at .. 'queue', 0)
    if first and is_marked(first) then
        local text = call('HGET', s.at .. 'live', id_of(first))
        if text then oldest = unpack_entry(s, text).created end
    end
    local second = math.floor(now / 1000)
    local sums = {0, 0, 0}
    for at = math.max(0, second - 60), second - 1 do
        for i, value in ipairs(call('HMGET', s.at .. 'second:' .. at, 'accepted', 'finalized', 'failed')) do
            sums[i] = sums[i] + (tonumber(value or 0) or 0)
        end
    end
    local latencies, slot = {}, math.floor(second / 10)
    for at = math.max(0, slot - 5), slot do
        append_to(latencies, call('HGETALL', s.at .. 'latency:' .. at))
    end
    return done(
        s, 'OK', call('HGETALL', s.at .. 'counts'), call('LLEN', s.at .. 'queue'), s.claimed, s.open, oldest, now, sums,
        latencies
    )
end

register('sent', sent, FULL)
register('accept', accept, {})
register('find', find, FULL)
register('list', list, FULL)
register('transaction', transaction, FULL)
register('cancel', cancel, FULL)
register('retry', retry, {})
register('census', census, FULL)
