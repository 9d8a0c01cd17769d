/*
 * Every bound in the program, with its reason.  What an operator may change
 * has its default here and its range in the table of knobs (server/config.c).
 */
#ifndef OPTD_PROTO_LIMITS_H
#define OPTD_PROTO_LIMITS_H

/* Protocol versions this build speaks, agreed on in HELLO. */
#define LIMIT_PROTOCOL_MIN 1
#define LIMIT_PROTOCOL_MAX 1

/* Elements of a block, a power of two: 512 KiB of float32.  Large enough that
 * a message's fixed cost vanishes, small enough that a block and its slots
 * stay in a core's cache between the check, the update and the copy. */
#define LIMIT_BLOCK_ELEMENTS (128u * 1024u)
#define LIMIT_BLOCK_BYTES (LIMIT_BLOCK_ELEMENTS * 4u)

/* Segments of a block: a mask over them takes 512 bytes, so a message about
 * part of a block always fits its header. */
#define LIMIT_BLOCK_SEGMENTS 4096u
#define LIMIT_MASK_BYTES (LIMIT_BLOCK_SEGMENTS / 8u)

/* A message's header: unpacking is linear in it, and it fits two pages. */
#define LIMIT_HEADER_BYTES 4096u

/* Memory that unpacking one header or one tensor record may take: groups with schedules
 * of four parts take half of it. */
#define LIMIT_ARENA_BYTES (128u * 1024u)

/* A message's payload: at least one block; a layout travels in one payload. */
#define LIMIT_MESSAGE_BYTES (4u * 1024u * 1024u)

/* Runs of blocks in one message: what fits a header, with room to spare. */
#define LIMIT_PARTS 64u

/* Bytes a worker may have under way to one lane, and half of it must hold one
 * message.  Deep enough to keep the wire full, small enough to stay in cache. */
#define LIMIT_WINDOW_BYTES (16u * 1024u * 1024u)

/* Windows of answers that peers without ranks may leave unread on one lane also where the
 * models leave less of limits.memory: a model can always be exported. */
#define LIMIT_ANSWER_WINDOWS 2u

/* Layouts. */
#define LIMIT_TENSORS (1u << 20)
#define LIMIT_TENSOR_RANK 16u
#define LIMIT_NAME_BYTES 512u
#define LIMIT_ELEMENTS (UINT64_C(1) << 42)

/* Parts of a norm that one message brings from server to server, eight bytes each: those
 * of several of the densest blocks, and no more than a lane copies in passing. */
#define LIMIT_NORM_SEGMENTS (8u * LIMIT_BLOCK_SEGMENTS)

/* Models a daemon holds: lists of them are scanned, not hashed. */
#define LIMIT_MODELS 64u

/* Ranks of a model: a mask of them is scanned per block. */
#define LIMIT_WORKERS 1024u

/* Steps, versions, incarnations, tokens: so far from the end of 64 bits that
 * code may add to what a peer sent. */
#define LIMIT_COUNTER (UINT64_C(1) << 62)

/* Samples of one contribution: whole numbers up to here are exact in a double,
 * and sums of them over all ranks are finite. */
#define LIMIT_WEIGHT 9007199254740992.0

/* What a loss may be multiplied with: the normal numbers of float32, as PyTorch keeps a
 * scale, so that neither it nor what divides by it is zero or infinite. */
#define LIMIT_LOSS_SCALE_MIN 1.1754943508222875e-38
#define LIMIT_LOSS_SCALE_MAX 3.4028234663852886e38

/* Steps before a loss scale grows: PyTorch counts them in 32 bits. */
#define LIMIT_GROWTH_INTERVAL 2147483647u

/* Requests of one session that wait: pulls for a later version, pushes for the
 * other ranks, of which a rank has one for each block at most.  A window of small ones;
 * of whole messages, models of billions. */
#define LIMIT_WAITS 8192u

/* Memory of all pulls that wait on one lane: readers are in no model's formula, and
 * there may be thousands.  A pull takes some 300 bytes, more with many parts: room for
 * 50 of each of 4,096 readers, where a window of whole messages is 4. */
#define LIMIT_PULLS_BYTES (64u * 1024u * 1024u)

/* SAVEs and DROPs that wait, of a session and of a daemon: they are done one after the
 * other, and each may write a whole model.  Enough for one that names every model. */
#define LIMIT_SESSION_JOBS 8u
#define LIMIT_JOBS 64u
/* Of these, for sessions that have none waiting: an operator's is to be heard. */
#define LIMIT_FIRST_JOBS 16u

/* Lanes of a daemon and daemons of a client. */
#define LIMIT_LANES 64u
#define LIMIT_DAEMONS 256u

/* Descriptors kept free of connections: for files, timers and threads of the daemon
 * and of each lane (a lane has about a dozen), and for connections that are accepted
 * faster than they are refused. */
#define LIMIT_SPARE_DESCRIPTORS 256u
#define LIMIT_LANE_DESCRIPTORS 16u

/* Connections that the system completes before a lane takes them.  Below the spare: a
 * storm of connects is taken as fast as it comes, and closed a little later. */
#define LIMIT_BACKLOG 128u

/* How long a file waits for a free descriptor, in steps: connections that were refused
 * hold them for milliseconds, and a checkpoint is not to fail for that. */
#define LIMIT_DESCRIPTOR_WAIT_MS 5000u
#define LIMIT_DESCRIPTOR_STEP_MS 1u

/* An endpoint's text, and the text that travels with a status. */
#define LIMIT_ENDPOINT_BYTES 256u
#define LIMIT_TEXT_BYTES 1024u

/* Hyper-parameters an OPEN may name. */
#define LIMIT_HYPERS 32u

/* Values of one: a number, a pair of betas, three coefficients of muon. */
#define LIMIT_HYPER_VALUES 3u

/* Settings of an average of the weights: two of ema, start and every, and room. */
#define LIMIT_AVERAGE_HYPERS 8u

/* A learning-rate schedule: stretches of it, parameters of each (onecycle has eight),
 * values of one (milestones). */
#define LIMIT_SCHEDULE_PARTS 4u
#define LIMIT_SCHEDULE_PARAMS 9u
#define LIMIT_SCHEDULE_VALUES 16u

/* Parameter groups of a model: OPENED tells each whole, and all fit its header.  The
 * pattern of one, with its NUL: a set of its characters is four words. */
#define LIMIT_GROUPS 8u
#define LIMIT_PATTERN_BYTES 256u

/* Bytes that a STATUS tells of a group's pattern beside its learning rate: its record has
 * two names of 511 bytes, and three texts. */
#define LIMIT_RATE_BYTES 64u

/* Bytes of OPENED's header for the optimizer and its groups: what its texts, at most 1,536
 * bytes (the optimizer's 1,024, and a sentence of less than 512), and its numbers leave.  OPEN, with two names of 511, has more. */
#define LIMIT_TOLD_BYTES 2176u

/* Changes of a running model's hyper-parameters that are kept, each with the version it
 * holds from: 27 KiB a lane.  Of more, those that every block has passed are joined. */
#define LIMIT_CHANGES 64u

/* SETs of all sessions that wait: each is done in a moment. */
#define LIMIT_SETS 16u

/* How long a change that is prepared holds a model's blocks back without a word from who
 * asked for it: many answers' time, far less than a step may take. */
#define LIMIT_SET_HOLD_MS 5000u

/* Tensors that are looked at for those whose names are nearest to a pattern: an error's
 * text is not to hold a lane up. */
#define LIMIT_NEAREST_TENSORS 4096u

/* Updates of whole tensors: what a lane does of them in one turn of its loop, so that it
 * answers others meanwhile, and after how many multiplications it looks at the time: some
 * tenths of a millisecond. */
#define LIMIT_WORK_MS 2u
#define LIMIT_WORK_SLICE (512u * 1024u)

/* A configuration file; what it is read into is a few times larger. */
#define LIMIT_CONFIG_BYTES (1024u * 1024u)

/* A safetensors header: what readers of the format accept.  An entry takes about 100
 * bytes, and a checkpoint has one for each tensor's weights, state vectors and step;
 * a model that has more is refused by OPEN. */
#define LIMIT_SAFETENSORS_HEADER (100u * 1000u * 1000u)

#endif
